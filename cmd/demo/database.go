package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

// database is a private PostgreSQL with the schemas of Postrider and of the shop.
type database struct {
	server *pgtest.Server
	admin  *pgxpool.Pool // the superuser's: the demo's view from outside
	app    *pgxpool.Pool // the application's, with the least of privileges
}

// start starts the server, creates the schemas and the roles app and relay, and grants these what they need, no more.
// After an error, stop undoes the rest.
func (d *database) start(ctx context.Context, log io.Writer, listen bool) (err error) {
	if d.server, err = pgtest.Start(ctx, pgtest.Options{Log: log}); err != nil {
		return err
	}
	if d.admin, err = pgxpool.New(ctx, d.url("postgres")+"&jit=off"); err != nil {
		return err
	}
	if d.app, err = pgxpool.New(ctx, d.url("app")); err != nil {
		return err
	}
	if _, err := migrations.Up(ctx, d.url("postgres")); err != nil {
		return err
	}
	scripts := []string{"CREATE ROLE app LOGIN; CREATE ROLE relay LOGIN",
		migrations.AppGrants("app"), migrations.RelayGrants("relay"), shopSchema}
	if listen {
		scripts = append(scripts, "SELECT postrider.enable_notify()")
	}
	for _, sql := range scripts {
		if _, err := d.admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("set up the database: %w", err)
		}
	}
	return nil
}

// url is the connection string of a role; no password is needed.
func (d *database) url(role string) string {
	u, err := url.Parse(d.server.URL("postgres"))
	if err != nil {
		panic(err) // pgtest builds it with package url
	}
	u.User = url.User(role)
	return u.String()
}

func (d *database) stop() error {
	for _, pool := range []*pgxpool.Pool{d.app, d.admin} {
		if pool != nil {
			pool.Close()
		}
	}
	if d.server == nil {
		return nil
	}
	return d.server.Stop()
}

// subscribe creates a subscription, as anybody can in SQL.
func (d *database) subscribe(ctx context.Context, s subscription, sink string) error {
	_, err := d.admin.Exec(ctx, "SELECT postrider.subscribe($1, $2, $3, $4)", s.name, []string{s.topics}, sink, s.settings)
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", s.name, err)
	}
	return nil
}

// standing is how a subscription stands by Postrider's own account.
type standing struct {
	Name, Owner, Trouble            string
	Retrying, Held, Scheduled, Dead int
}

func (d *database) standings(ctx context.Context) (map[string]standing, error) {
	byName := map[string]standing{}
	rows, err := query[standing](ctx, d, `SELECT name, coalesce(owner, ''), coalesce(paused_reason, trouble, ''),
		retrying, held, scheduled, dead FROM postrider.subscription_status`)
	for _, s := range rows {
		byName[s.Name] = s
	}
	return byName, err
}

// letter is a dead letter.
type letter struct {
	Subscription       string
	ID                 int64
	Topic, Key, Reason string
}

func (d *database) deadLetters(ctx context.Context) ([]letter, error) {
	return query[letter](ctx, d, `SELECT subscription, id, topic, coalesce(key, ''), coalesce(reason, '')
		FROM postrider.parked WHERE state = 'dead' ORDER BY subscription, id`)
}

// query reads rows into structs whose fields are the columns in order.
func query[T any](ctx context.Context, d *database, sql string) ([]T, error) {
	rows, err := d.admin.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("look at the database: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		return nil, fmt.Errorf("look at the database: %w", err)
	}
	return list, nil
}

// slot returns the name of a replication slot, empty if there is none.
func (d *database) slot(ctx context.Context) (name string, err error) {
	err = d.admin.QueryRow(ctx, "SELECT slot_name FROM pg_replication_slots LIMIT 1").Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return name, err
}
