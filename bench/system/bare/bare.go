package bare

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
)

const childName = "bare"

func init() {
	child.Register(childName, func(args []string) {
		ctx, stop := child.Context()
		defer stop()
		child.Fatal(pipe(ctx, args[0]))
	})
}

// Bare is the bare pipe.
type Bare struct {
	// Label is its name in tables.
	Label string
	// Copies is how often each message is published, to subjects that begin with "s0.", "s1." and so on. 0: once, as it is.
	Copies int
	// Raw writes HTTP by itself, as no client that a program would use: the limit of the sockets. Else net/http does it.
	Raw bool
	// Attributes is for destinations of other kinds: each message has all attributes that Postrider's has. Else it has id and payload.
	Attributes bool
	// Batches publishes to NATS in fast batches, which the stream has to allow.
	Batches bool
	// PayloadBytes are those of each message of a backlog. Default: system.PayloadBytes.
	PayloadBytes int
	// HTTP is how it posts, if it is not nil.
	HTTP *HTTP
}

var _ system.System = (*Bare)(nil)

// New returns the pipe that delivers each message once.
func New() system.System { return &Bare{Label: "bare pipe"} }

// NewWhole returns the pipe whose messages have all that Postrider's have.
func NewWhole() system.System { return &Bare{Label: "bare pipe, all attributes", Attributes: true} }

// NewRaw returns the pipe whose HTTP is its own.
func NewRaw() system.System { return &Bare{Label: "bare pipe, raw HTTP", Raw: true} }

// NewBatches returns the pipe that publishes in fast batches of JetStream. Only a scenario that allows them on the stream measures it.
func NewBatches() system.System { return &Bare{Label: "bare pipe, batches", Batches: true} }

// Name is the label.
func (b *Bare) Name() string { return b.Label }

// Supports tells that it delivers to all of them; several times only to NATS, and with all attributes only to other kinds.
func (b *Bare) Supports(to system.Destination) bool {
	if to.Bridge.Kind != "" {
		return b.Copies == 0 && !b.Raw
	}
	return !b.Attributes && (to.NATS != "" && !b.Raw || to.Webhook != "" && b.Copies == 0)
}

// Install makes the plain table.
func (b *Bare) Install(ctx context.Context, p system.Place) error {
	conn, err := pgx.Connect(ctx, p.Database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{
		"CREATE TABLE plain (id bigserial PRIMARY KEY, payload jsonb NOT NULL)",
		"CREATE PUBLICATION bare FOR TABLE plain WITH (publish = 'insert')",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make the plain table: %w", err)
		}
	}
	return nil
}

// Enqueue inserts with one statement.
func (b *Bare) Enqueue(ctx context.Context, tx pgx.Tx, messages []system.Message) error {
	if len(messages) == 1 {
		_, err := tx.Exec(ctx, "INSERT INTO plain (payload) VALUES ($1)", string(messages[0].Payload()))
		return err
	}
	payloads := make([]string, len(messages))
	for i, m := range messages {
		payloads[i] = string(m.Payload())
	}
	_, err := tx.Exec(ctx, "INSERT INTO plain (payload) SELECT unnest($1::jsonb[])", payloads)
	return err
}

// Fill inserts in transactions of 1,000 rows.
func (b *Bare) Fill(ctx context.Context, conn *pgx.Conn, n int) error {
	const batch = 1000
	const insert = `INSERT INTO plain (payload)
		SELECT jsonb_build_object('n', i, 'pad', repeat('x', $3 - 15 - length(i::text))) FROM generate_series($1::bigint, $2) i`
	for from := 1; from <= n; from += batch {
		if _, err := conn.Exec(ctx, insert, from, min(from+batch-1, n), cmp.Or(b.PayloadBytes, system.PayloadBytes)); err != nil {
			return err
		}
	}
	return nil
}

// order tells the child what to do.
type order struct {
	Database string
	To       system.Destination
	Copies   int
	Raw      bool
	Whole    bool
	Batches  bool
	HTTP     *HTTP
}

// subjects returns where each message goes.
func (o order) subjects() []string {
	if o.Copies == 0 {
		return []string{"bench.t1"}
	}
	list := make([]string, o.Copies)
	for i := range list {
		list[i] = "s" + strconv.Itoa(i) + ".bench.t1"
	}
	return list
}

// Start starts the pipe.
func (b *Bare) Start(ctx context.Context, p system.Place) (system.Process, error) {
	text, err := json.Marshal(order{p.Database, p.To, b.Copies, b.Raw, b.Attributes, b.Batches, b.HTTP})
	if err != nil {
		return nil, err
	}
	process, err := child.Start(ctx, child.Spec{
		Name: b.Label, Cmd: child.Command(context.WithoutCancel(ctx), childName, string(text)), Log: filepath.Join(p.Dir, "bare.log"), AwaitReady: true,
	})
	if err != nil {
		return nil, err
	}
	return process, nil
}
