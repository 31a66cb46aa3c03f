package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// operationFaults are what operators ask for many messages. None of it excuses anything.
var operationFaults = []*Fault{
	{Name: "operation", About: "messages are redriven, discarded or cancelled by a filter, a few at a time, and who works on them gives up in the middle", Hits: onOperations, Inject: operate},
	{Name: "priorities", About: "a subscription loses its priorities, and gets them back", Hits: onPriorities, Inject: losePriorities},
}

// operation is what may be asked for.
type operation struct {
	kind, subscription string
	candidates         string // what it is about, among p
}

// deadLetters are what may be redriven, or discarded.
const deadLetters = `postrider.parked p WHERE p.subscription = o.subscription AND p.state = 'dead'`

var operationKinds = []operation{
	{"redrive", "skips", deadLetters},
	{"redrive", "holds", deadLetters},
	{"discard", "skips", deadLetters}, // of holds it would let keys go on
	{"cancel", "loose", unsettled},
	{"cancel", "victim", unsettled},
	{"redrive", pulled, deadLetters},
	{"discard", pulled, deadLetters},
	{"cancel", pulled, unsettled},
	{"redrive", taken, deadLetters},
	{"discard", taken, deadLetters},
}

// unsettled is what may be cancelled, and more. Of what waits to be tried again the log may hold nothing any more.
const unsettled = `(SELECT id, created_at, topic::text, key, payload, NULL AS subscription FROM postrider.outbox UNION ALL SELECT id, created_at, topic::text, key, payload, subscription
	FROM postrider.parked) p WHERE p.topic LIKE 'audit.%' AND coalesce(p.subscription, o.subscription) = o.subscription`

// operationMatches says, beside the product's own filter, whether an operation's filter means a message.
const operationMatches = ` (o.topic IS NULL OR p.topic::text LIKE replace(replace(o.topic, '>', '%'), '*', '%')) AND (o.key IS NULL OR p.key = o.key)
	AND (o.since IS NULL OR p.created_at >= o.since) AND (o.until IS NULL OR p.created_at < o.until)`

// operate starts an operation, and notes in the same snapshot which messages it means.
func operate(ctx context.Context, w *world, rng *rand.Rand) error {
	var kinds []operation
	for _, o := range operationKinds {
		if slices.ContainsFunc(w.subs, func(s *subscription) bool { return s.Name == o.subscription }) {
			kinds = append(kinds, o)
		}
	}
	one := kinds[rng.IntN(len(kinds))]
	topic, since, until := one.filter(rng)
	var id int64
	var meant []int64
	err := poll(ctx, time.Minute, func() error {
		return pgx.BeginTxFunc(ctx, w.db.admin, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			err := tx.QueryRow(ctx, "SELECT postrider.start_operation($1, $2, topic => $3, since => $4, until => $5)", one.kind, one.subscription, topic, since, until).Scan(&id)
			if err != nil {
				return err
			}
			rows, err := tx.Query(ctx, `INSERT INTO torture.meant SELECT o.id, p.id, p.created_at, (p.payload->>'id')::bigint FROM postrider.operations o, `+one.candidates+` AND o.id = $1 AND`+
				operationMatches+` RETURNING message`, id)
			if err == nil {
				meant, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	if one.kind == "cancel" {
		for _, m := range meant {
			w.apps.history.cancels.ask(one.subscription, m)
		}
	}
	for n := rng.IntN(5); n > 0; n-- {
		w.workOnOperations(ctx, 1+rng.IntN(4), rng.IntN(3) == 0)
		pause(ctx, span(rng, 0, 300*time.Millisecond))
	}
	if rng.IntN(6) == 0 {
		// One that began just before a standby was promoted may be lost, with the messages that it meant.
		return w.db.try(ctx, "SELECT postrider.cancel_operation(o.id) FROM postrider.operations o WHERE o.id = $1", id)
	}
	return nil
}

// filter picks which messages it means.
func (o operation) filter(rng *rand.Rand) (topic, since, until any) {
	switch rng.IntN(3) {
	case 0:
		since = time.Now().Add(-span(rng, 0, 10*time.Second))
	case 1:
		until = time.Now().Add(-span(rng, 0, 5*time.Second))
	default:
		topic = []string{"poison.>", "poison.pill", "orders.>"}[rng.IntN(3)]
	}
	if o.kind == "cancel" { // no others
		topic = []string{"audit.>", "*.login.failed"}[rng.IntN(2)]
	}
	return topic, since, until
}

// workOnOperations does a small chunk as a relay does, and perhaps loses it. An error is as good as a loss.
func (w *world) workOnOperations(ctx context.Context, most int, lose bool) {
	_ = pgx.BeginFunc(ctx, w.db.admin, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT postrider.work_operation('checker', $1)", most)
		if lose {
			err = fmt.Errorf("given up: %w", errRollback)
		}
		return err
	})
}

func losePriorities(ctx context.Context, w *world, rng *rand.Rand) error {
	for _, on := range []bool{false, true} {
		err := w.db.try(ctx, "UPDATE postrider.subscriptions SET settings = settings || jsonb_build_object('priorities', $1::boolean) WHERE name = 'urgent'", on)
		if err != nil {
			return err
		}
		pause(ctx, span(rng, 0, 2*time.Second))
	}
	return nil
}
