package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/states"
)

// saveStatement saves everything or, cursor by cursor, nothing: rows of subscriptions and cursors are locked in the order of their
// parts, a cursor that is not this relay's any more (the fence: its epoch and owner) is left alone, and so are its parked rows. It waits
// for nobody's lock: one command left open in somebody's session must not delay the others.
var saveStatement, recordingStatement = newNamed(saveParts + saveAnswer), newNamed(saveParts + recordsStatement + saveAnswer)

var saveParts = `
WITH input AS (
	SELECT * FROM unnest(@names::text[], @shards::smallint[], @classes::smallint[], @epochs::bigint[], @bases::text[], @targets::text[], @after_ids::bigint[],
	                     @done_ids::text[], @done_first::text[], @done_last::text[], @troubles::text[], @destinations::smallint[]) WITH ORDINALITY
		AS i (subscription, shard, class, epoch, base, target, after_id, ids, first, last, trouble, destination, n)
), locked AS MATERIALIZED (
	SELECT c.subscription, c.shard, c.class FROM input i
	JOIN postrider.subscriptions s ON s.name = i.subscription
	JOIN postrider.cursors c ON c.subscription = i.subscription AND c.shard = i.shard AND c.class = i.class AND c.epoch = i.epoch AND c.owner = @me
	WHERE EXISTS (SELECT FROM postrider.relays WHERE incarnation = @me) AND NOT pg_is_in_recovery()
	ORDER BY i.subscription, i.shard, i.class FOR KEY SHARE OF s SKIP LOCKED FOR UPDATE OF c SKIP LOCKED
), saved AS (
	UPDATE postrider.cursors c
	SET base = i.base::pg_snapshot, target = i.target::pg_snapshot, after_id = i.after_id, done = '{}',
	    done_ids = i.ids::int8multirange[], done_first = i.first::timestamptz[], done_last = i.last::timestamptz[],
	    trouble = i.trouble, down = CASE i.destination WHEN ` + number(DestinationDown) + ` THEN true WHEN ` + number(DestinationWorks) + ` THEN false ELSE c.down END, saved_at = now()
	FROM input i JOIN locked l USING (subscription, shard, class)
	WHERE c.subscription = i.subscription AND c.shard = i.shard AND c.class = i.class AND c.epoch = i.epoch AND c.owner = @me
	RETURNING c.subscription, c.shard, c.class, i.n
), inserted AS (
	INSERT INTO postrider.parked (subscription, shard, class, id, created_at, state, attempts, due, reason, token, lease, worker, progress, ` + copiedList((*copied).column) + `)
	SELECT p.subscription, p.shard, p.class, p.id, p.created_at, p.state, p.attempts,
	       coalesce(clock_timestamp() + p.lease * interval '1 microsecond', p.due), p.reason,
	       p.token, p.lease * interval '1 microsecond', p.worker, p.progress::json, ` + copiedList((*copied).inserted) + `
	FROM unnest(@in_names::text[], @in_shards::smallint[], @in_classes::smallint[], @in_ids::bigint[], @in_created::timestamptz[], @in_states::text[],
	            @in_attempts::int[], @in_dues::timestamptz[], @in_reasons::text[], @in_tokens::bigint[], @in_leases::bigint[], @in_workers::text[],
	            @in_progress::text[], @in_copies::smallint[], ` + copiedList((*copied).parameter) + `)
		AS p (subscription, shard, class, id, created_at, state, attempts, due, reason, token, lease, worker, progress, copies, ` + copiedList((*copied).column) + `)
	JOIN saved USING (subscription, shard, class)
	-- OFFSET: else each message is looked for, and thrown away then.
	LEFT JOIN LATERAL (SELECT * FROM postrider.copied_message(p.id, p.created_at, p.copies = 2) WHERE p.copies IN (1, 2) OFFSET 0) m ON true
	ON CONFLICT DO NOTHING
), updated AS (
	UPDATE postrider.parked t SET state = p.state, attempts = p.attempts, updated_at = now(), reason = coalesce(p.reason, t.reason),
	    due = coalesce(clock_timestamp() + p.lease * interval '1 microsecond', p.due),
	    token = coalesce(p.token, t.token), lease = coalesce(p.lease * interval '1 microsecond', t.lease),
	    worker = p.worker, progress = CASE WHEN p.state = '` + states.Leased + `' THEN coalesce(p.progress::json, CASE WHEN t.token = p.token THEN t.progress END) END
	FROM unnest(@up_names::text[], @up_shards::smallint[], @up_classes::smallint[], @up_ids::bigint[], @up_created::timestamptz[], @up_states::text[],
	            @up_attempts::int[], @up_dues::timestamptz[], @up_reasons::text[], @up_tokens::bigint[], @up_leases::bigint[], @up_workers::text[], @up_progress::text[], @up_mine::bigint[])
		AS p (subscription, shard, class, id, created_at, state, attempts, due, reason, token, lease, worker, progress, mine)
	JOIN saved USING (subscription, shard, class)
	WHERE t.subscription = p.subscription AND t.id = p.id AND t.created_at = p.created_at AND (t.state IN (` + states.SQL(states.State.Loadable) + `)
	    -- What waits for a callback is the receiver's until that came or the lease is over. What the sink has leased by itself is its owner's.
	    OR t.state = '` + states.Leased + `' AND t.token = p.mine
	    -- What is cancelled is so whatever its receiver says.
	    OR p.state = '` + states.Cancelled + `' AND t.state IN ('` + states.Leased + `', ` + states.SQL(states.State.CalledBack) + `)
	    OR p.state <> '` + states.Leased + `' AND (t.state = '` + states.Failed + `' OR t.state = '` + states.Leased + `' AND t.due <= clock_timestamp()))
), deleted AS (
	DELETE FROM postrider.parked t
	USING unnest(@del_names::text[], @del_shards::smallint[], @del_classes::smallint[], @del_ids::bigint[], @del_created::timestamptz[])
		AS p (subscription, shard, class, id, created_at)
	JOIN saved USING (subscription, shard, class)
	WHERE t.subscription = p.subscription AND t.id = p.id AND t.created_at = p.created_at AND t.state NOT IN ('` + states.Discarded + `', '` + states.Cancelled + `')
)`

const saveAnswer = `
SELECT array(SELECT n - 1 FROM saved),
	array(SELECT i.n - 1 FROM input i WHERE NOT EXISTS (SELECT FROM postrider.cursors c
		WHERE c.subscription = i.subscription AND c.shard = i.shard AND c.class = i.class AND c.epoch = i.epoch AND c.owner = @me)),
	EXISTS (SELECT FROM postrider.relays WHERE incarnation = @me) AND NOT pg_is_in_recovery()`

// Save writes the progress of several parts and returns which of them were saved, and which were refused: their cursors are not this
// relay's any more, or their history has changed. What is in neither list is locked by somebody. ErrLost: the relay's own row is gone.
func Save(ctx context.Context, pool *dbconn.Pool, incarnation string, list []Progress) (saved, refused []int64, err error) {
	var alive bool
	statement := saveStatement
	args, records := saveArgs(incarnation, list, pool.Encoding())
	if records {
		statement = recordingStatement
	}
	err = writeLocal(ctx, pool, func(b *pgx.Batch) {
		b.Queue(statement.sql, statement.bind(args)...).
			QueryRow(func(row pgx.Row) error { return row.Scan(&saved, &refused, &alive) })
	})
	if err == nil && !alive {
		err = ErrLost
	}
	return saved, refused, err
}
