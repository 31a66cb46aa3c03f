package store

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
)

// Result is what came of a message.
type Result struct {
	Message snapshot.Ident
	Result  []byte // JSON
}

// recordSize is about what a record takes in memory beside its text.
const recordSize = 200

// Size is about what it takes in memory.
func (r Result) Size() int64 { return recordSize + int64(len(r.Result)) }

// Attempt is one to deliver a message.
type Attempt struct {
	Message         snapshot.Ident
	Number          int // from 1
	Started         time.Time
	Took            time.Duration
	Worker          string
	Outcome, Reason string
	Due             time.Time // of the next one; zero: there is none
}

// Size is about what it takes in memory.
func (a Attempt) Size() int64 { return recordSize + int64(len(a.Reason)+len(a.Worker)) }

// recordsStatement continues a save: records belong to what is saved, and are written with it or not at all. A save whose answer got lost is repeated,
// and writes them once.
const recordsStatement = `, results AS (
	INSERT INTO postrider.results (subscription, id, created_at, result)
	SELECT p.subscription, p.id, p.created_at, p.result::json
	FROM unnest(@res_names::text[], @res_shards::smallint[], @res_classes::smallint[], @res_ids::bigint[], @res_created::timestamptz[], @res_results::text[])
		AS p (subscription, shard, class, id, created_at, result)
	JOIN saved USING (subscription, shard, class)
	ON CONFLICT (id, subscription, created_at, segment) DO UPDATE SET result = excluded.result, kept_at = excluded.kept_at
), attempts AS (
	INSERT INTO postrider.attempts (subscription, id, created_at, attempt, started_at, took, relay, worker, outcome, reason, due)
	SELECT p.subscription, p.id, p.created_at, p.attempt, p.started, p.took * interval '1 microsecond', (SELECT name FROM postrider.relays WHERE incarnation = @me),
	       p.worker, p.outcome, p.reason, p.due
	FROM unnest(@att_names::text[], @att_shards::smallint[], @att_classes::smallint[], @att_ids::bigint[], @att_created::timestamptz[], @att_attempts::int[],
	            @att_started::timestamptz[], @att_took::bigint[], @att_workers::text[], @att_outcomes::text[], @att_reasons::text[], @att_dues::timestamptz[])
		AS p (subscription, shard, class, id, created_at, attempt, started, took, worker, outcome, reason, due)
	JOIN saved USING (subscription, shard, class)
	ON CONFLICT DO NOTHING
)`

// recordArrays are the columns of results and attempts.
type recordArrays struct {
	encoding dbconn.Encoding
	results  struct {
		deleteArrays
		texts []string
	}
	attempts struct {
		deleteArrays
		numbers          []int32
		started          []pgtype.Timestamptz
		took             []int64 // microseconds
		outcomes         []string
		workers, reasons []*string
		dues             []*time.Time
	}
}

func (a *recordArrays) add(p Progress) {
	for _, r := range p.Results {
		a.results.add(p.Part, r.Message)
		a.results.texts = append(a.results.texts, a.encoding.JSON(r.Result))
	}
	for _, t := range p.Attempts {
		a.addAttempt(p.Part, t)
	}
}

func (a *recordArrays) addAttempt(part subscription.Part, t Attempt) {
	c := &a.attempts
	c.add(part, t.Message)
	c.numbers, c.took, c.outcomes = append(c.numbers, int32(t.Number)), append(c.took, t.Took.Microseconds()), append(c.outcomes, t.Outcome)
	c.started = append(c.started, pgtype.Timestamptz{Time: t.Started, Valid: true})
	c.workers, c.reasons = append(c.workers, orNull(a.encoding.Storable(t.Worker))), append(c.reasons, orNull(a.encoding.Storable(t.Reason)))
	var due *time.Time
	if !t.Due.IsZero() {
		due = &t.Due
	}
	c.dues = append(c.dues, due)
}

func (a *recordArrays) none() bool { return len(a.results.ids) == 0 && len(a.attempts.ids) == 0 }

func (a *recordArrays) bind(args map[string]any) {
	a.results.bind(args, "res_")
	args["res_results"] = a.results.texts
	c := &a.attempts
	c.bind(args, "att_")
	args["att_attempts"], args["att_started"], args["att_took"], args["att_workers"] = c.numbers, c.started, c.took, c.workers
	args["att_outcomes"], args["att_reasons"], args["att_dues"] = c.outcomes, c.reasons, c.dues
}
