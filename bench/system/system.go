// Package system says what every system under measurement has in common: Postrider, the bare pipe and the peers.
package system

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// PayloadBytes is the length of every payload.
const PayloadBytes = 200

// Message is what a producer enqueues. N numbers the messages of one measurement from 1; it is the first member of the payload, {"n":N,…},
// so that the destination can tell which message arrived.
type Message struct {
	N     int64
	Topic string // such as "bench.t1"; systems without topics ignore it
}

// Destination is where messages go: exactly one of the three is set.
type Destination struct {
	NATS    string // URL of the server; the stream BENCH takes the subjects "bench.>" and has file storage
	Webhook string // URL that takes POST requests and answers 204
	Bridge  Bridge // another kind of destination, see package bridge
}

// Bridge is a destination of another kind.
type Bridge struct {
	Kind    string // its name in package bridge, such as "redis"
	Address string // as that kind has it
}

// Place is what a system finds: a database of its own, and a directory for its files and logs.
type Place struct {
	Database string // connection string of the owner of an empty database
	Dir      string
	To       Destination
	Log      func(format string, args ...any)
}

// System is a relay, a job server or the bare pipe.
type System interface {
	// Name is short and stands in tables: "postrider stream", "bare pipe", "river".
	Name() string

	// Supports tells whether it can deliver there in the way that its documentation recommends.
	Supports(to Destination) bool

	// Install creates its tables.
	Install(ctx context.Context, p Place) error

	// Enqueue inserts messages inside the producer's transaction, in the way its documentation recommends for that number.
	Enqueue(ctx context.Context, tx pgx.Tx, messages []Message) error

	// Fill enqueues messages 1 to n as fast as it goes, while nothing runs: the backlog.
	Fill(ctx context.Context, conn *pgx.Conn, n int) error

	// Start starts its process and returns when that delivers, or would if there were messages.
	Start(ctx context.Context, p Place) (Process, error)
}

// Process is a running system, in processes of its own, so that its CPU time and memory can be told from the rest's.
type Process interface {
	// PID is the process whose CPU time and memory count, with its children.
	PID() int

	// Stop ends it in its own orderly way and waits for it, for at most 20 seconds; then it is killed.
	Stop() error
}

// Tables names the relations whose dead tuples are this system's cost, as patterns for LIKE on schema.table, such as "postrider.%".
type Tables interface{ Tables() []string }

// Usage is what something has cost between two moments.
type Usage struct {
	CPU  time.Duration // user and system
	Peak int64         // bytes resident at most, if known
}

// Settler is a System that delivers when Start has returned, but not yet in the way in which it will go on: Settle returns when it does.
// With a backlog nobody waits for that.
type Settler interface {
	Settle(ctx context.Context, p Place) error
}
