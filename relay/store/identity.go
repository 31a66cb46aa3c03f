package store

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/internal/dbconn"
)

// SchemaVersion returns the newest migration that was applied.
func SchemaVersion(ctx context.Context, pool *dbconn.Pool) (version int, err error) {
	err = pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM postrider.schema_migrations WHERE is_applied").Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version, nil
}

// Identity returns the id of the database as a source of messages. It is not the same database if the outbox was copied here from another
// cluster or database, where its transaction ids belong.
func Identity(ctx context.Context, pool *dbconn.Pool) (source string, same bool, err error) {
	err = pool.QueryRow(ctx, `SELECT id, system_identifier = (SELECT system_identifier FROM pg_control_system())
		AND database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())
		FROM postrider.source`).Scan(&source, &same)
	if err != nil {
		return "", false, fmt.Errorf("read the database's identity: %w", err)
	}
	return source, same, nil
}

// Notifies says whether an INSERT sends a notification.
func Notifies(ctx context.Context, pool *dbconn.Pool) (there bool, err error) {
	err = pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_trigger
		WHERE tgrelid = 'postrider.outbox'::regclass AND tgname = 'notify_outbox')`).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("read whether the trigger is there: %w", err)
	}
	return there, nil
}
