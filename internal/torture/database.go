package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

// checkerSchema is what the checker itself keeps in the database: which transactions committed, and the shared keys.
const checkerSchema = `
CREATE SCHEMA torture;
CREATE TABLE torture.tx (number bigint PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id());
CREATE TABLE torture.keys (key text PRIMARY KEY, last bigint NOT NULL DEFAULT 0);
INSERT INTO torture.keys SELECT 'shared-' || n FROM generate_series(0, 4) n;
CREATE TABLE torture.effects (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message bigint NOT NULL, wire text NOT NULL, run bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE ROLE app LOGIN;
CREATE ROLE relay LOGIN REPLICATION;
GRANT USAGE ON SCHEMA torture TO app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA torture TO app;
`

// database is the server that is written to, which a standby may replace.
type database struct {
	admin  *pgxpool.Pool   // the superuser's view, of whichever server is the primary
	pooler *pgtest.Bouncer // for the relays, or nil
	// replication is the network between the primary and its standby, or nil.
	replication *linktest.Link
	// hasLedger says that triggers take down what happens: see keepLedger.
	hasLedger bool

	mu      sync.Mutex
	servers []*pgtest.Server // the primary first
	dead    string           // host:port of the server that its standby has replaced
}

// startDatabase starts a server with the schemas of Postrider and of the checker, and roles with the least of privileges.
func startDatabase(ctx context.Context, o pgtest.Options) (*database, error) {
	// Of each crash a prepared transaction may be left for a while.
	o.Settings = map[string]string{"max_prepared_transactions": "50"}
	server, err := pgtest.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	d := &database{servers: []*pgtest.Server{server}}
	if err := d.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the database: %w", err), d.stop())
	}
	return d, nil
}

func (d *database) prepare(ctx context.Context) (err error) {
	url := d.primary().URL("postgres")
	if _, err := migrations.Up(ctx, url); err != nil {
		return err
	}
	if err := d.connect(ctx); err != nil {
		return err
	}
	_, err = d.admin.Exec(ctx, checkerSchema+migrations.AppGrants("app")+";"+migrations.RelayGrants("relay"))
	return err
}

// connect opens the checker's own pool.
func (d *database) connect(ctx context.Context) (err error) {
	config, err := pgxpool.ParseConfig(d.url("postgres") + "&application_name=checker&jit=off&synchronous_commit=local")
	if err != nil {
		return err
	}
	config.MaxConns = 8
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	d.admin, err = pgxpool.NewWithConfig(ctx, config)
	return err
}

func (d *database) primary() *pgtest.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.servers[0]
}

// url is a role's connection string, which names all servers and chooses the one that can be written to.
func (d *database) url(role string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var hosts []string
	for _, s := range d.servers {
		hosts = append(hosts, hostOf(s))
	}
	return urlOf(role, hosts...)
}

func hostOf(s *pgtest.Server) string { return fmt.Sprintf("127.0.0.1:%d", s.Port()) }

// urlOf is a role's connection string for these addresses.
func urlOf(role string, hosts ...string) string {
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable&target_session_attrs=read-write", role, strings.Join(hosts, ","))
}

// try runs a statement until the server answers, for what the checker does while servers come and go.
func (d *database) try(ctx context.Context, sql string, args ...any) error {
	return poll(ctx, time.Minute, func() error {
		_, err := d.admin.Exec(ctx, sql, args...)
		return err
	})
}

// ask reads one column, once the server answers.
func ask[T any](ctx context.Context, d *database, sql string, args ...any) (list []T, err error) {
	err = poll(ctx, time.Minute, func() error {
		rows, err := d.admin.Query(ctx, sql, args...)
		if err == nil {
			list, err = pgx.CollectRows(rows, pgx.RowTo[T])
		}
		return err
	})
	return list, err
}

// one is ask for a single value.
func one[T any](ctx context.Context, d *database, sql string, args ...any) (v T, err error) {
	list, err := ask[T](ctx, d, sql, args...)
	if err == nil && len(list) != 1 {
		err = fmt.Errorf("%d rows from %s", len(list), sql)
	}
	if err == nil {
		v = list[0]
	}
	return v, err
}

// settle ends what is left of the producers: transactions that nobody waits for any more, and prepared ones. Then it returns
// the numbers of those that committed.
func (d *database) settle(ctx context.Context) (map[int64]bool, error) {
	err := poll(ctx, time.Minute, func() error {
		n, err := one[int](ctx, d, "SELECT count(*)::int FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'")
		if err == nil && n > 0 {
			err = fmt.Errorf("%d transactions of producers are still running", n)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	names, err := ask[string](ctx, d, "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'torture-%'")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := d.try(ctx, "COMMIT PREPARED '"+name+"'"); err != nil {
			return nil, err
		}
	}
	numbers, err := ask[int64](ctx, d, "SELECT number FROM torture.tx")
	committed := make(map[int64]bool, len(numbers))
	for _, n := range numbers {
		committed[n] = true
	}
	return committed, err
}

// stop ends everything, in spite of those who are connected.
func (d *database) stop() (err error) {
	if d.admin != nil {
		d.admin.Close()
	}
	if d.pooler != nil {
		err = d.pooler.Stop()
	}
	if d.replication != nil {
		d.replication.Stop()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.servers {
		err = errors.Join(err, s.Stop())
	}
	return err
}

// sweep ends transactions that were prepared on a connection that broke: their applications do it late, but they do. Until then
// they are as old transactions, and no stream can begin.
func (w *world) sweep(ctx context.Context) {
	const late = "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'torture-%' AND prepared < now() - interval '6 s'"
	for pause(ctx, time.Second) {
		names, err := ask[string](ctx, w.db, late)
		if err != nil {
			continue // the round is over, or the checker says so elsewhere
		}
		for _, name := range names {
			_ = w.db.try(ctx, "COMMIT PREPARED '"+name+"'") // or else it is there the next time
		}
	}
}
