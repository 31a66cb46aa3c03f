package river

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
)

// fillRows is how many jobs one COPY takes when the backlog is made.
const fillRows = 5000

// settings are what differs from River's defaults.
type settings struct {
	MaxWorkers                       int
	FetchCooldown, FetchPollInterval time.Duration // 0: River's default
	Fast                             bool          // COPY for batches
	Effect                           bool          // a job writes a row, and is completed in its transaction
}

var (
	byDefault     = settings{MaxWorkers: 100}
	transactional = settings{MaxWorkers: 100, FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond, Fast: true, Effect: true}
	tuned         = settings{MaxWorkers: 2000, FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond, Fast: true}
)

// config is River's configuration of a client that inserts.
func (s settings) config() *river.Config {
	return &river.Config{FetchCooldown: s.FetchCooldown, FetchPollInterval: s.FetchPollInterval}
}

// Systems are River tuned and as it comes, each with a worker that POSTs and with one that does nothing but count.
func Systems() []system.System {
	return []system.System{
		newSystem("river tuned", tuned, false),
		newSystem("river", byDefault, false),
		newSystem("river tuned no-op", tuned, true),
		newSystem("river no-op", byDefault, true),
		newSystem("river tuned transactional", transactional, true),
	}
}

type peer struct {
	name     string
	settings settings
	noOp     bool
	client   func() (*river.Client[pgx.Tx], error)
}

var (
	_ system.System = (*peer)(nil)
	_ system.Tables = (*peer)(nil)
)

func newSystem(name string, s settings, noOp bool) *peer {
	return &peer{name: name, settings: s, noOp: noOp, client: sync.OnceValues(func() (*river.Client[pgx.Tx], error) {
		return river.NewClient(riverpgxv5.New(nil), s.config())
	})}
}

func (r *peer) Name() string { return r.name }

func (r *peer) Supports(to system.Destination) bool {
	return to.NATS == "" && to.Bridge.Kind == "" && r.noOp == (to.Webhook == "")
}

func (r *peer) Tables() []string { return []string{"public.river%"} }

func (r *peer) Install(ctx context.Context, p system.Place) error {
	pool, err := pgxpool.New(ctx, p.Database)
	if err != nil {
		return fmt.Errorf("install River: %w", err)
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err == nil {
		_, err = pool.Exec(ctx, "CREATE TABLE effects (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())")
	}
	if err != nil {
		return fmt.Errorf("install River: %w", err)
	}
	return nil
}

// args are a job's arguments: the payload as it is.
type args struct{ json.RawMessage }

func (args) Kind() string { return "deliver" }

func (r *peer) Enqueue(ctx context.Context, tx pgx.Tx, messages []system.Message) error {
	client, err := r.client()
	if err != nil {
		return err
	}
	if len(messages) == 1 {
		_, err := client.InsertTx(ctx, tx, args{messages[0].Payload()}, nil)
		return err
	}
	jobs := make([]river.InsertManyParams, len(messages))
	for i, m := range messages {
		jobs[i].Args = args{m.Payload()}
	}
	if r.settings.Fast {
		_, err = client.InsertManyFastTx(ctx, tx, jobs)
	} else {
		_, err = client.InsertManyTx(ctx, tx, jobs)
	}
	return err
}

func (r *peer) Fill(ctx context.Context, conn *pgx.Conn, n int) error {
	client, err := r.client()
	if err != nil {
		return err
	}
	jobs := make([]river.InsertManyParams, 0, fillRows)
	for from := 1; from <= n; from += fillRows {
		jobs = jobs[:0]
		for i := from; i < from+fillRows && i <= n; i++ {
			jobs = append(jobs, river.InsertManyParams{Args: args{system.Payload(int64(i))}})
		}
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := client.InsertManyFastTx(ctx, tx, jobs)
			return err
		})
		if err != nil {
			return fmt.Errorf("fill River's queue: %w", err)
		}
	}
	return nil
}

func (r *peer) Start(ctx context.Context, p system.Place) (system.Process, error) {
	if !r.Supports(p.To) {
		return nil, errors.New("start " + r.name + ": it does not deliver there")
	}
	order, err := json.Marshal(workOrder{Database: p.Database, Webhook: p.To.Webhook, Count: system.CountFile(p), Settings: r.settings})
	if err != nil {
		return nil, err
	}
	process, err := child.Start(ctx, child.Spec{
		Name: r.name, Cmd: child.Command(context.WithoutCancel(ctx), childName, string(order)),
		Log: filepath.Join(p.Dir, "river.log"), AwaitReady: true,
	})
	if err != nil {
		return nil, err
	}
	if r.noOp {
		return system.Counting(process, system.CountFile(p)), nil
	}
	return process, nil
}
