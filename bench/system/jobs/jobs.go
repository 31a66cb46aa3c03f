package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/postrider"
)

// Options are of a worker's process.
type Options struct {
	Kind         string // pull, sql, plain
	Concurrency  int    // jobs, or transactions, at once
	Batch        int    // jobs in a transaction
	Effect       bool   // each job writes a row
	Listen       bool   // sql: LISTEN
	Milliseconds int    // how long a job takes
}

// workOrder is what the bench tells the worker's process.
type workOrder struct {
	Options
	Database, API, Count, Times string
}

// effects is what jobs with an effect write.
const effects = `CREATE TABLE effects (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())`

// start starts the worker's process.
func (o Options) start(ctx context.Context, name string, p system.Place, api string) (system.Process, error) {
	order, err := json.Marshal(workOrder{o, p.Database, api, system.CountFile(p), system.TimesFile(p)})
	if err != nil {
		return nil, err
	}
	process, err := child.Start(ctx, child.Spec{
		Name: name, Cmd: child.Command(context.WithoutCancel(ctx), childName, string(order)),
		Log: filepath.Join(p.Dir, "worker.log"), AwaitReady: true,
	})
	if err != nil {
		return nil, err
	}
	return system.Counting(process, system.CountFile(p)), nil
}

// relayed is Postrider with a pull: subscription: a relay, and a worker that asks it.
type relayed struct {
	postrider.Postrider
	options Options
}

// NewPull returns Postrider with workers over HTTP.
func NewPull(o Options) system.System {
	o.Kind = "pull"
	return &relayed{postrider.Postrider{Label: "postrider pull", Follow: "stream", Subscriptions: subscription("pull:", nil)}, o}
}

func subscription(sink string, settings map[string]any) func(system.Destination) []postrider.Subscription {
	return func(system.Destination) []postrider.Subscription {
		return []postrider.Subscription{{Name: "bench", Topics: []string{"bench.>"}, Sink: sink, Settings: settings}}
	}
}

// Supports tells that workers come by themselves.
func (r *relayed) Supports(to system.Destination) bool { return to == system.Destination{} }

// Start runs a relay, and the worker once that is there.
func (r *relayed) Start(ctx context.Context, p system.Place) (system.Process, error) {
	api, err := freeAddress()
	if err != nil {
		return nil, err
	}
	r.Env = []string{"POSTRIDER_API_ADDR=" + api}
	relay, err := r.Postrider.Start(ctx, p)
	if err != nil {
		return nil, err
	}
	worker, err := r.options.start(ctx, "worker", p, "http://"+api)
	if err != nil {
		return nil, fmt.Errorf("%w (the relay stopped: %v)", err, relay.Stop())
	}
	return &pair{relay, worker}, nil
}

// pair is a relay and its worker. The relay's memory and CPU time are the system's, the worker's those of the destination.
type pair struct{ relay, worker system.Process }

var (
	_ system.Counter = (*pair)(nil)
	_ system.Helped  = (*pair)(nil)
)

func (p *pair) PID() int              { return p.relay.PID() }
func (p *pair) Helpers() []int        { return []int{p.worker.PID()} }
func (p *pair) Count() (int64, error) { return p.worker.(system.Counter).Count() }

func (p *pair) Stop() error {
	err := p.worker.Stop()
	if e := p.relay.Stop(); err == nil {
		err = e
	}
	return err
}

// inSQL is Postrider with a sql: subscription and no relay.
type inSQL struct {
	postrider.Postrider
	options Options
}

// NewSQL returns Postrider with workers in SQL.
func NewSQL(o Options) system.System {
	o.Kind = "sql"
	return &inSQL{postrider.Postrider{Label: "postrider sql", Subscriptions: subscription("sql:", nil)}, o}
}

// Supports tells that workers come by themselves.
func (s *inSQL) Supports(to system.Destination) bool { return to == system.Destination{} }

// Install makes the table of effects, too.
func (s *inSQL) Install(ctx context.Context, p system.Place) error {
	if err := s.Postrider.Install(ctx, p); err != nil {
		return err
	}
	return exec(ctx, p, effects)
}

// Start runs the worker alone.
func (s *inSQL) Start(ctx context.Context, p system.Place) (system.Process, error) {
	return s.options.start(ctx, "worker", p, "")
}

// EmptyPoll is what a worker asks in vain.
func (s *inSQL) EmptyPoll() string {
	return fmt.Sprintf("SELECT id FROM postrider.take('bench', %d)", s.options.Batch)
}

// Settle has nothing to wait for: there is no stream.
func (s *inSQL) Settle(context.Context, system.Place) error { return nil }

func exec(ctx context.Context, p system.Place, sql string) error {
	conn, err := pgx.Connect(ctx, p.Database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
