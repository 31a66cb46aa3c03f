package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// applicationFaults are what applications and operators do to a relay at work: none of it is a fault of theirs.
var applicationFaults = []*Fault{
	{Name: "pause-command", About: "a subscription is paused, and resumed soon after", Hits: onApplication, Inject: pauseCommand},
	{Name: "settings", About: "a subscription's lanes and batches are changed", Hits: onApplication, Inject: changeSettings},
	// A change of topics makes void what was not saved. After a replay only these may see again what they took long before.
	{Name: "topics", About: "a subscription's topics are changed, to others that mean the same", Hits: onApplication,
		Repeats: []string{"events", "hooks"}, Inject: changeTopics},
	{Name: "replay", About: "a subscription is set back to the earliest message that there is", Hits: onApplication,
		Repeats: []string{"loose", "victim"}, Replays: true, Inject: replay},
	{Name: "redrive", About: "dead letters are redriven, in vain", Hits: onApplication, Inject: redrive},
	cancelFault,
	{Name: "huge", About: "one transaction of 20,000 messages, committed or rolled back", Hits: onApplication, Inject: writeHuge},
	// PostgreSQL writes out a gigabyte before it gives up: once is enough.
	{Name: "poison-row", About: "a row that nobody can read, on a topic that nobody wants", Hits: onApplication, Once: true, Inject: insertPoisonRow},
	{Name: "reader", About: "an idle transaction holds a snapshot and a lock for reading on the outbox", Hits: onApplication, Inject: readIdly},
}

// pauseCommand pauses one subscription for a while, which may be shorter than it takes anybody to notice.
func pauseCommand(ctx context.Context, w *world, rng *rand.Rand) error {
	name := w.subs[rng.IntN(len(w.subs))].Name
	if err := w.db.try(ctx, "SELECT postrider.pause($1, 'maintenance')", name); err != nil {
		return err
	}
	pause(ctx, span(rng, 0, 1500*time.Millisecond))
	return w.db.try(ctx, "SELECT postrider.resume($1)", name)
}

func changeSettings(ctx context.Context, w *world, rng *rand.Rand) error {
	name := []string{"events", "once", "hooks", "victim", "loose"}[rng.IntN(5)]
	return w.db.try(ctx, "UPDATE postrider.subscriptions SET settings = settings || jsonb_build_object('lanes', $2::int, 'batch', $3::int) WHERE name = $1",
		name, 1+rng.IntN(16), 1+rng.IntN(50))
}

func changeTopics(ctx context.Context, w *world, rng *rand.Rand) error {
	name := []string{"events", "hooks"}[rng.IntN(2)]
	for _, sql := range []string{"array_append(topics, 'nothing.at.all')", "array_remove(topics, 'nothing.at.all')"} {
		if err := w.db.try(ctx, "UPDATE postrider.subscriptions SET topics = "+sql+" WHERE name = $1", name); err != nil {
			return err
		}
		pause(ctx, span(rng, 0, time.Second))
	}
	return nil
}

// replay goes back to the earliest message: a replay to a later time may as well skip what is pending.
func replay(ctx context.Context, w *world, rng *rand.Rand) error {
	return w.db.try(ctx, "SELECT postrider.replay($1, 'earliest')", []string{"loose", "victim"}[rng.IntN(2)])
}

func redrive(ctx context.Context, w *world, rng *rand.Rand) error {
	return w.db.try(ctx, "SELECT postrider.redrive($1)", []string{"skips", "holds"}[rng.IntN(2)])
}

// hugeMessages is how many messages a huge transaction has. The relay's memory has no room for all of them.
const hugeMessages = 20_000

func writeHuge(ctx context.Context, w *world, rng *rand.Rand) error {
	p := &producer{producers: w.apps, name: fmt.Sprintf("huge-%d", rng.Uint32())}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	conn, err := connect(ctx, p.url())
	if err == nil {
		defer closeConn(conn)
		err = p.transact(ctx, conn, func(t *tx) error { return t.insertHuge(ctx, rng) })
	}
	p.fail(err) // it is a producer like all others: a fault of the database may explain it
	return nil
}

func (t *tx) insertHuge(ctx context.Context, rng *rand.Rand) error {
	const atOnce = 500
	for range hugeMessages / atOnce {
		messages := make([]Message, atOnce)
		for i := range messages {
			messages[i] = Message{Topic: "bulk.x", Key: t.p.key(rng.IntN(50)), Order: t.p.next()}
		}
		if err := t.insert(ctx, messages...); err != nil {
			return err
		}
	}
	if rng.IntN(3) == 0 {
		return errRollback
	}
	return nil
}

// insertPoisonRow inserts a payload that is short as it is stored and over a gigabyte as text, past the bound on what an INSERT accepts,
// as a restored or replicated row comes.
// It takes seconds, in which a server that is restarted all the time may not get round to it.
func insertPoisonRow(ctx context.Context, w *world, _ *rand.Rand) error {
	err := w.db.try(ctx, `DO $$ BEGIN
		PERFORM set_config('session_replication_role', 'replica', true);
		INSERT INTO postrider.outbox (topic, payload) SELECT 'nobody.wants', jsonb_agg('1e131071'::jsonb) FROM generate_series(1, 9000);
	END $$`)
	w.mu.Lock()
	restarted := slices.ContainsFunc(w.incidents, func(i Incident) bool { return i.Hits == onDatabase })
	w.mu.Unlock()
	if err != nil && restarted {
		w.say("poison-row: the row could not be inserted between the faults of the database: %v", err)
		return nil
	}
	return err
}

// readIdly does what a forgotten session of an administrator does. If the server ends it, so much the better.
func readIdly(ctx context.Context, w *world, rng *rand.Rand) error {
	conn, err := connect(ctx, w.db.url("postgres"))
	if err != nil {
		return nil
	}
	defer closeConn(conn)
	_ = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "LOCK TABLE postrider.outbox IN ACCESS SHARE MODE; SELECT count(*) FROM postrider.outbox")
		if err == nil {
			pause(ctx, span(rng, time.Second, 3*time.Second))
		}
		return err
	})
	return nil
}
