package dbconn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/dberr"
)

// connectTimeout is how long a connection may take to open unless the connection string says otherwise.
const connectTimeout = 10 * time.Second

// ParseConfig reads a connection string for [NewPool] and, with its ConnConfig, for [Connect]. Every connection that is made with it
// is pinned, and leads to a primary: of several hosts to the one that is, whether or not target_session_attrs says so.
func ParseConfig(databaseURL string) (*pgxpool.Config, error) { return parse(databaseURL, false) }

// ParseReplica is [ParseConfig] for connections that only read: each leads to a standby.
func ParseReplica(databaseURL string) (*pgxpool.Config, error) { return parse(databaseURL, true) }

func parse(databaseURL string, standby bool) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	c := config.ConnConfig
	setDefault(c.RuntimeParams, "application_name", "postrider")
	// Those that every pooler knows, since drivers of other languages send them too.
	for name, value := range map[string]string{"client_encoding": "UTF8", "DateStyle": dateStyle, "TimeZone": timeZone} {
		setParam(c.RuntimeParams, name, value)
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	asked := c.ValidateConnect // by target_session_attrs
	c.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := pin(ctx, conn, standby); err != nil {
			return err
		}
		if asked != nil {
			return asked(ctx, conn)
		}
		return nil
	}
	return config, nil
}

// setParam sets a parameter whose name is spelt in any case.
func setParam(params map[string]string, name, value string) {
	for other := range params {
		if strings.EqualFold(other, name) {
			delete(params, other)
		}
	}
	params[name] = value
}

func setDefault(params map[string]string, name, value string) {
	for other, given := range params {
		if strings.EqualFold(other, name) && given != "" {
			return
		}
	}
	setParam(params, name, value)
}

// Unprepared makes pgx do without prepared statements, unless the connection string asks for the simple protocol, which does
// without them too.
func Unprepared(c *pgx.ConnConfig) {
	if c.DefaultQueryExecMode != pgx.QueryExecModeSimpleProtocol {
		c.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
}

// Prepares reports whether the connection prepares statements.
func Prepares(c *pgx.ConnConfig) bool {
	return c.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement || c.DefaultQueryExecMode == pgx.QueryExecModeCacheDescribe
}

// pin is the first that happens on a connection: it finds out whether a pooler is in between, and if not, pins the session. Who
// gives out server connections makes up the process id that it tells at the start.
func pin(ctx context.Context, conn *pgconn.PgConn, standby bool) error {
	own := fmt.Sprintf("pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) %d", conn.PID())
	values, err := ask(ctx, conn, unlimited, setPins(false, own), "SELECT "+own+", pg_catalog.current_setting('session_replication_role'), pg_catalog.pg_is_in_recovery()")
	if err != nil {
		return fmt.Errorf("pin the session: %w", err)
	}
	switch recovers := string(values[2]) == "t"; {
	case recovers && !standby:
		return &dberr.Standby{}
	case standby && !recovers:
		return &dberr.Primary{}
	}
	pooled := string(values[0]) != "t"
	conn.CustomData()[pooledName] = pooled
	if pooled {
		if err := checkTransactions(ctx, conn); err != nil {
			return err
		}
	}
	if err := matchEncoding(ctx, conn); err != nil {
		return err
	}
	if string(values[1]) != "replica" {
		return nil
	}
	if !pooled {
		if _, err = ask(ctx, conn, "SET session_replication_role = 'origin'"); err == nil {
			return nil
		}
	}
	return errors.New("session_replication_role is replica for this role, with which neither triggers nor foreign keys work: " +
		"ALTER ROLE … (or ALTER DATABASE …) RESET session_replication_role")
}

const pooledName = "postrider.pooled"

// ask runs statements in one round trip, by the simple protocol, and returns the last row of the last.
func ask(ctx context.Context, conn *pgconn.PgConn, statements ...string) (values [][]byte, err error) {
	results, err := conn.Exec(ctx, strings.Join(statements, "; ")).ReadAll()
	if err != nil {
		return nil, err
	}
	if last := results[len(results)-1]; len(last.Rows) > 0 {
		return last.Rows[len(last.Rows)-1], nil
	}
	return nil, nil
}

// Pooled says whether a pooler or proxy gives this connection out: what a session sets may not be there in the next transaction.
func Pooled(conn *pgconn.PgConn) bool {
	pooled, _ := conn.CustomData()[pooledName].(bool)
	return pooled
}
