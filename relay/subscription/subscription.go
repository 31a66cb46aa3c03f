package subscription

// Subscription is a named stream of the messages whose topics match, on their way to one sink.
type Subscription struct {
	Name string
	// Topics are patterns as in NATS: "orders.created", "orders.*", "orders.>".
	Topics []string
	// Sink is a URL; its scheme chooses the destination's kind.
	Sink     string
	Settings Settings
}

// Ordering says which messages of a subscription wait for one another.
type Ordering string

// The orderings.
const (
	OrderByKey  Ordering = "key"    // messages of one key, in order of insertion
	OrderNone   Ordering = "none"   // none
	OrderStrict Ordering = "strict" // all: one in flight, and a failing one stops the rest
)

// KeepAttempts says which attempts to deliver a message are kept, with what came of them.
type KeepAttempts string

// The values of KeepAttempts.
const (
	AttemptsFailed KeepAttempts = "failed" // those that were not accepted
	AttemptsAll    KeepAttempts = "all"
	AttemptsNone   KeepAttempts = "none"
)

// OnDead says what a dead letter does to its key.
type OnDead string

// What a dead letter may do to its key.
const (
	DeadSkips OnDead = "skip" // the key goes on
	DeadHolds OnDead = "hold" // the key waits until the dead letter is redriven or discarded
)
