package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/inbox"
	"github.com/postrider/postrider/internal/pgtest"
)

// Tables of the destination. Both have the columns that Postrider's sink wants, and count their rows by a sequence; in the loop's one the message id
// is unique, which is the least by which each message is there once. Postrider's has the inbox for that.
const (
	postgresTable  = "public.events"
	postgresPlain  = "public.plain"
	postgresTables = `CREATE TABLE public.events (n bigserial, message_id text, topic text, key text, payload jsonb, body bytea, headers jsonb, created_at timestamptz);
		CREATE TABLE public.plain (LIKE public.events INCLUDING DEFAULTS, PRIMARY KEY (message_id))`
	postgresCount = `SELECT coalesce(pg_sequence_last_value('public.events_n_seq'), 0)`
	postgresTimes = `SELECT (payload->>'n')::bigint, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1e9)::bigint
		FROM (SELECT xmin, payload FROM public.events UNION ALL SELECT xmin, payload FROM public.plain) t`
)

// another is a second PostgreSQL.
type another struct {
	server *pgtest.Server
	admin  *pgxpool.Pool // on database postgres
	pool   *pgxpool.Pool // on the database that takes messages; nil: there is none
}

var _ Server = (*another)(nil)

// postgresName is the database that takes messages.
const postgresName = "destination"

func startPostgres(ctx context.Context, _ string) (Server, error) {
	settings := maps.Clone(env.Settings)
	settings["track_commit_timestamp"] = "on"
	server, err := pgtest.Start(ctx, pgtest.Options{Settings: settings})
	if err != nil {
		return nil, err
	}
	a := &another{server: server}
	if a.admin, err = pgxpool.New(ctx, server.URL("postgres")); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return a, nil
}

// Fresh implements Server.
func (a *another) Fresh(ctx context.Context) (string, error) {
	if a.pool != nil {
		a.pool.Close()
		a.pool = nil
	}
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + postgresName + " WITH (FORCE)", "CREATE DATABASE " + postgresName, "CHECKPOINT"} {
		if _, err := a.admin.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	address := a.server.URL(postgresName)
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return "", err
	}
	err = inbox.Install(ctx, conn)
	if err == nil {
		_, err = conn.Exec(ctx, postgresTables)
	}
	if err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
		return "", err
	}
	a.pool, err = pgxpool.New(ctx, address)
	return address, err
}

// PIDs implements Server.
func (a *another) PIDs() []int { return []int{a.server.Pid()} }

// Count implements Server. The sequence is ahead of what is committed by the batches that are under way.
func (a *another) Count(ctx context.Context) (n int64, err error) {
	return n, a.pool.QueryRow(ctx, postgresCount).Scan(&n)
}

// Listen implements Server: each row has the time of its commit.
func (a *another) Listen(context.Context) error { return nil }

// Arrived implements Server.
func (a *another) Arrived(ctx context.Context) (int64, error) { return a.Count(ctx) }

// Times implements Server.
func (a *another) Times(ctx context.Context) (times []int64, err error) {
	rows, err := a.pool.Query(ctx, postgresTimes)
	if err != nil {
		return nil, err
	}
	var n, at int64
	_, err = pgx.ForEachRow(rows, []any{&n, &at}, func() error {
		for int64(len(times)) <= n {
			times = append(times, make([]int64, max(1<<16, len(times)))...)
		}
		times[n] = at
		return nil
	})
	return times, err
}

// Stop implements Server.
func (a *another) Stop() error {
	if a.pool != nil {
		a.pool.Close()
	}
	a.admin.Close()
	return a.server.Stop()
}

func postgresSink(at string) Sink {
	u, err := url.Parse(at)
	if err != nil {
		return Sink{URL: at} // which says what is wrong with it
	}
	return Sink{URL: fmt.Sprintf("postgres://%s@%s/%s?table=%s", u.User.Username(), u.Host, strings.TrimPrefix(u.Path, "/"), postgresTable)}
}

// postgresLoop inserts batches over two connections, each in a transaction.
func postgresLoop(ctx context.Context, o order) (*batches, error) {
	pool, err := pgxpool.New(ctx, o.at)
	if err != nil {
		return nil, err
	}
	const least = "INSERT INTO " + postgresPlain + " (message_id, payload) SELECT i, p::jsonb FROM unnest($1::text[], $2::text[]) AS u (i, p) ON CONFLICT DO NOTHING"
	const whole = "INSERT INTO " + postgresPlain + " (message_id, topic, payload, created_at) SELECT i, '" + topic + "', p::jsonb, now() FROM unnest($1::text[], $2::text[]) AS u (i, p) ON CONFLICT DO NOTHING"
	sql := least
	if o.attributes {
		sql = whole
	}
	send := func(ctx context.Context, batch []item) error {
		ids, payloads := make([]string, len(batch)), make([]string, len(batch))
		for i, m := range batch {
			ids[i], payloads[i] = m.id, string(m.payload)
		}
		_, err := pool.Exec(ctx, sql, ids, payloads)
		return err
	}
	return newBatches(ctx, o, 500, func() error { pool.Close(); return nil }, same(2, send)...), nil
}
