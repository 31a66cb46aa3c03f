package admin

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/migrations"
)

// Purpose is what a role of the database is for.
type Purpose string

// The purposes, each with what such a role may do.
const (
	ForApplication Purpose = "An application: it may enqueue messages, and nothing else"
	ForRelay       Purpose = "A relay, and the commands that look after it"
	ForTimerRelay  Purpose = "A relay that does not stream, and the commands that look after it"
	ForReader      Purpose = "A reader: it may see what came of messages, and nothing that they carry"
	ForWorker      Purpose = "A worker: it may settle asynchronous deliveries, and nothing else"
)

var grants = map[Purpose]func(role string) string{
	ForApplication: migrations.AppGrants, ForRelay: migrations.RelayGrants, ForTimerRelay: migrations.TimerGrants, ForWorker: migrations.WorkerGrants,
	ForReader: migrations.ReaderGrants,
}

// Grants returns the SQL that gives a role what it needs, and nothing else.
func Grants(to Purpose, role string) string { return grants[to](role) }

// WorkerGrants returns the SQL that lets a role take messages of one subscription in its own transactions, and nothing else.
func WorkerGrants(role, subscription string) string {
	return migrations.SQLWorkerGrants(role, subscription)
}

// Grant gives a role what it needs.
func Grant(ctx context.Context, db *dbconn.Conn, to Purpose, role string) error {
	if _, err := db.Exec(ctx, Grants(to, role), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("grant role %q what it needs: %w", role, err)
	}
	return nil
}
