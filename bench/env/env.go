// Package env runs what the systems under measurement need: PostgreSQL, a NATS server and a receiver of webhooks, each in processes of
// their own, and measures what they cost.
package env

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/bench/pin"
	"github.com/postrider/postrider/internal/pgtest"
)

// Env is all that runs for the whole time.
type Env struct {
	Dir   string // for files and logs of this run
	PG    *pgtest.Server
	Admin *pgxpool.Pool // on database postgres
	NATS  *NATS
	Hook  *Hook
	// Pins are the processors of each part.
	Pins pin.Processors

	databases int
}

// Settings of PostgreSQL that differ from its defaults (those of connections and of logical replication aside): durable as by default,
// memory and WAL as a small server of today is given.
var Settings = map[string]string{
	"fsync":                "on",
	"full_page_writes":     "on",
	"synchronous_commit":   "on",
	"wal_level":            "logical",
	"shared_buffers":       "512MB",
	"max_wal_size":         "4GB",
	"checkpoint_timeout":   "15min",
	"max_connections":      "300",
	"track_io_timing":      "off",
	"wal_compression":      "off",
	"autovacuum":           "on",
	"random_page_cost":     "1.1",
	"maintenance_work_mem": "128MB",
}

// Start starts everything, on the processors of its part. log takes slow steps; the files go to dir. After an error nothing is left.
func Start(ctx context.Context, dir string, log io.Writer, pins pin.Processors) (e *Env, err error) {
	e = &Env{Dir: dir, Pins: pins}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Stop())
		}
	}()
	err = pins.Start(pin.Postgres, func() (err error) {
		e.PG, err = pgtest.Start(ctx, pgtest.Options{Settings: Settings, Log: log})
		return err
	})
	if err != nil {
		return e, err
	}
	if e.Admin, err = pgxpool.New(ctx, e.PG.URL("postgres")); err != nil {
		return e, err
	}
	err = pins.Start(pin.Destination, func() (err error) {
		if e.NATS, err = startNATS(ctx, dir); err == nil {
			e.Hook, err = startHook(ctx, dir)
		}
		return err
	})
	if err == nil {
		err = pins.Move(pin.Bench, os.Getpid())
	}
	return e, err
}

// Stop ends everything.
func (e *Env) Stop() error {
	var errs []error
	if e.Hook != nil {
		errs = append(errs, e.Hook.Stop())
	}
	if e.NATS != nil {
		errs = append(errs, e.NATS.Stop())
	}
	if e.Admin != nil {
		e.Admin.Close()
	}
	if e.PG != nil {
		errs = append(errs, e.PG.Stop())
	}
	return errors.Join(errs...)
}

// NewDatabase creates an empty database after a checkpoint, so that none of what came before is written during what follows.
func (e *Env) NewDatabase(ctx context.Context) (name, url string, err error) {
	e.databases++
	name = fmt.Sprintf("bench_%d", e.databases)
	_, err = e.Admin.Exec(ctx, "CREATE DATABASE "+name)
	if err == nil {
		_, err = e.Admin.Exec(ctx, "CHECKPOINT")
	}
	if err != nil {
		return "", "", fmt.Errorf("create a database: %w", err)
	}
	return name, e.PG.URL(name), nil
}

// DropDatabase removes a database, whoever is connected to it. A slot goes shortly after its connection: that is waited for.
func (e *Env) DropDatabase(ctx context.Context, name string) error {
	for {
		_, err := e.Admin.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
		if err == nil {
			return nil
		}
		_, endErr := e.Admin.Exec(ctx, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active`, name)
		select {
		case <-ctx.Done():
			return fmt.Errorf("drop a database: %w", errors.Join(err, endErr))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// NewDir makes a directory below the run's.
func (e *Env) NewDir(name string) (string, error) {
	dir := filepath.Join(e.Dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}
