-- +goose Up

SET LOCAL search_path = pg_catalog, pg_temp;

-- Ids come again: after TRUNCATE ... RESTART IDENTITY, where a copy left the sequence behind, after a crash with asynchronous
-- commits. A row of the outbox is known by its id and its creation.
ALTER TABLE postrider.parked
    -- Its transaction, null if that is not known: ids and clocks may be set back, transaction ids tell which of them was.
    ADD COLUMN IF NOT EXISTS xid xid8,
    DROP CONSTRAINT parked_pkey,
    ADD PRIMARY KEY (subscription, id, created_at);

-- What is settled beyond the rest, in runs: an id of done_ids[n] counts for what was created from done_first[n] to done_last[n].
-- The column done is that of relays before this version, and of rebase: it counts for what was created before saved_at.
ALTER TABLE postrider.cursors
    ADD COLUMN IF NOT EXISTS done_ids   int8multirange[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS done_first timestamptz[]    NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS done_last  timestamptz[]    NOT NULL DEFAULT '{}';

-- A done that is unbounded, or earlier topics that are none, cannot be used: whoever finds them pauses the subscription. Nothing writes
-- such values; what is there already is mended, for an UPDATE would be refused. (Checks run with the rights of who writes: PUBLIC may execute the function, which shows nothing.)
-- +goose StatementBegin
CREATE FUNCTION postrider.valid_earlier(earlier jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e jsonb;
BEGIN
    IF jsonb_typeof(earlier) <> 'array' THEN
        RETURN false;
    END IF;
    FOR e IN SELECT jsonb_array_elements(earlier) LOOP
        IF e ->> 'until' IS NULL OR (e ->> 'until')::pg_snapshot IS NULL
           OR postrider.valid_patterns(ARRAY(SELECT jsonb_array_elements_text(e -> 'topics'))) IS NOT TRUE THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
EXCEPTION WHEN data_exception THEN
    RETURN false;
END $$;
-- +goose StatementEnd

UPDATE postrider.subscriptions SET earlier = '[]', state = 'paused',
    paused_reason = 'earlier topics: they were not a list of topics with snapshots, and are forgotten'
WHERE NOT postrider.valid_earlier(earlier);
UPDATE postrider.subscriptions s SET state = 'paused',
    paused_reason = 'done: it had no bounds, and is empty now: what is not settled otherwise will come again'
FROM postrider.cursors c WHERE c.subscription = s.name AND (lower_inf(c.done) OR upper_inf(c.done));
UPDATE postrider.cursors SET done = '{}', epoch = epoch + 1 WHERE lower_inf(done) OR upper_inf(done);

ALTER TABLE postrider.subscriptions
    ADD CONSTRAINT earlier_is_a_list_of_topics_with_snapshots CHECK (postrider.valid_earlier(earlier));
ALTER TABLE postrider.cursors
    ADD CONSTRAINT done_is_bounded CHECK (NOT lower_inf(done) AND NOT upper_inf(done)),
    ADD CONSTRAINT done_is_in_runs CHECK (cardinality(done_ids) = cardinality(done_first) AND cardinality(done_ids) = cardinality(done_last));

-- As before, with rows that are known by id and creation.
CREATE OR REPLACE VIEW postrider.deliveries AS
SELECT s.name AS subscription, o.id, o.topic, o.key, o.created_at,
       CASE WHEN p.state = 'completed' THEN 'delivered'
            WHEN p.state = 'failed' THEN 'retry'
            WHEN p.id IS NOT NULL THEN p.state
            WHEN pg_visible_in_snapshot(o.xid, c.base)
              OR (o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target))
              OR c.done @> o.id AND o.created_at <= c.saved_at
              OR EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last)
                         WHERE d.ids @> o.id AND o.created_at BETWEEN d.first AND d.last) THEN 'delivered'
            ELSE 'pending' END AS status,
       p.attempts, p.due, p.reason
FROM postrider.subscriptions s
JOIN postrider.cursors c ON c.subscription = s.name
CROSS JOIN LATERAL (SELECT postrider.topic_regex(s.topics) AS regex,
                           CASE WHEN s.earlier <> '[]' AND postrider.valid_earlier(s.earlier) THEN s.earlier ELSE '[]' END AS earlier OFFSET 0) r
JOIN postrider.outbox o
  ON o.topic ~ CASE WHEN r.earlier = '[]' THEN r.regex
                    ELSE postrider.topic_regex(postrider.topics_at(s.topics, r.earlier, o.xid)) END
 AND NOT pg_visible_in_snapshot(o.xid, s.started)
LEFT JOIN postrider.parked p ON p.subscription = s.name AND p.id = o.id AND p.created_at = o.created_at
UNION ALL
SELECT p.subscription, p.id, p.topic, p.key, p.created_at,
       CASE p.state WHEN 'completed' THEN 'delivered' WHEN 'failed' THEN 'retry' ELSE p.state END, p.attempts, p.due, p.reason
FROM postrider.parked p
JOIN postrider.subscriptions s ON s.name = p.subscription
WHERE NOT EXISTS (
    SELECT FROM postrider.outbox o
    WHERE o.id = p.id AND o.created_at = p.created_at AND NOT pg_visible_in_snapshot(o.xid, s.started)
      AND o.topic ~ postrider.topic_regex(postrider.topics_at(s.topics,
          CASE WHEN s.earlier <> '[]' AND postrider.valid_earlier(s.earlier) THEN s.earlier ELSE '[]' END, o.xid)));

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.backlog(name text, OUT messages bigint, OUT oldest timestamptz, OUT segments bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    s       postrider.subscriptions;
    c       postrider.cursors;
    regex   text;
    top     xid8;
    running xid8[];
BEGIN
    SELECT * INTO s FROM postrider.subscriptions t WHERE t.name = backlog.name;
    SELECT * INTO c FROM postrider.cursors t WHERE t.subscription = backlog.name;
    IF s.earlier <> '[]' AND NOT postrider.valid_earlier(s.earlier) THEN
        s.earlier := '[]'; -- it is paused for that: status must not fail for all
    END IF;
    regex := postrider.topic_regex(s.topics);
    top := pg_snapshot_xmax(c.base);
    running := ARRAY(SELECT pg_snapshot_xip(c.base));
    -- No difference can be taken to what is infinite: status would fail for all.
    SELECT count(*), min(w.created_at) FILTER (WHERE isfinite(w.created_at)) INTO messages, oldest
    FROM (SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o WHERE o.xid >= top
          UNION ALL
          SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o WHERE o.xid = ANY (running)) w
    WHERE w.topic ~ CASE WHEN s.earlier = '[]' THEN regex
                         ELSE postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, w.xid)) END
      AND NOT coalesce(w.id <= c.after_id AND pg_visible_in_snapshot(w.xid, c.target), false)
      AND NOT (c.done @> w.id AND w.created_at <= c.saved_at)
      AND (c.done_ids = '{}' OR NOT EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last)
                                            WHERE d.ids @> w.id AND w.created_at BETWEEN d.first AND d.last))
      AND NOT EXISTS (SELECT FROM postrider.parked p
                      WHERE p.subscription = backlog.name AND p.id = w.id AND p.created_at = w.created_at);
    -- Scalar queries stop at the first row of each segment.
    SELECT count(*) INTO segments FROM generate_series(0, 15) g (segment)
    WHERE coalesce((SELECT true FROM postrider.outbox o WHERE o.segment = g.segment::smallint AND o.xid >= top LIMIT 1),
                   (SELECT true FROM postrider.outbox o WHERE o.segment = g.segment::smallint AND o.xid = ANY (running) LIMIT 1));
END $$;
-- +goose StatementEnd

-- What an attempt is at: 'waiting' for a callback, 'early' (its delivery may not be recorded yet), or 'over'. Tokens are random: one that
-- is not recorded is early as long as an attempt may be under way. Clocks of relays and of the server differ by minutes at most.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.attempt_state(subscription text, id bigint, token bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p postrider.parked;
BEGIN
    SELECT * INTO p FROM postrider.parked q
    WHERE q.subscription = attempt_state.subscription AND q.id = attempt_state.id AND q.token = attempt_state.token;
    IF FOUND THEN
        RETURN CASE WHEN p.state = 'accepted' AND p.due > clock_timestamp() THEN 'waiting' ELSE 'over' END;
    END IF;
    RETURN CASE WHEN EXISTS (
        SELECT FROM postrider.parked q
        WHERE q.subscription = attempt_state.subscription AND q.id = attempt_state.id
          AND (q.state = 'held' OR q.state IN ('retry', 'scheduled') AND coalesce(q.due <= clock_timestamp() + interval '5 minutes', true))
    ) OR EXISTS (
        SELECT FROM postrider.outbox o JOIN postrider.cursors c ON c.subscription = attempt_state.subscription
        WHERE o.id = attempt_state.id AND NOT pg_visible_in_snapshot(o.xid, c.base)
          AND NOT (c.done @> o.id AND o.created_at <= c.saved_at)
          AND NOT EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last)
                          WHERE d.ids @> o.id AND o.created_at BETWEEN d.first AND d.last)
          AND NOT coalesce(o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target), false)
          AND NOT EXISTS (SELECT FROM postrider.parked q WHERE q.subscription = attempt_state.subscription
                          AND q.id = o.id AND q.created_at = o.created_at)
    ) THEN 'early' ELSE 'over' END;
END $$;
-- +goose StatementEnd

-- Relays tell when the sequence is behind: it was not read before.
-- +goose StatementBegin
DO $$
DECLARE
    relay text;
BEGIN
    FOR relay IN SELECT DISTINCT a.grantee::regrole::text FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
                 WHERE c.oid = 'postrider.cursors'::regclass AND a.privilege_type = 'UPDATE' AND a.grantee <> 0 LOOP
        EXECUTE 'GRANT SELECT ON SEQUENCE postrider.outbox_id_seq TO ' || relay;
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
-- Views and functions stay as they are, and with them the columns: without runs in them they mean what they meant before.
UPDATE postrider.cursors SET done_ids = '{}', done_first = '{}', done_last = '{}';
ALTER TABLE postrider.cursors DROP CONSTRAINT done_is_bounded, DROP CONSTRAINT done_is_in_runs;
ALTER TABLE postrider.subscriptions DROP CONSTRAINT earlier_is_a_list_of_topics_with_snapshots;
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW postrider.deliveries AS '
        || replace(pg_get_viewdef('postrider.deliveries'::regclass), 'postrider.valid_earlier(s.earlier)', 'true');
    EXECUTE replace(pg_get_functiondef('postrider.backlog(text)'::regprocedure), 'postrider.valid_earlier(s.earlier)', 'true');
END $$;
-- +goose StatementEnd
DROP FUNCTION postrider.valid_earlier(jsonb);
DELETE FROM postrider.parked p USING postrider.parked q
WHERE q.subscription = p.subscription AND q.id = p.id AND q.created_at > p.created_at;
ALTER TABLE postrider.parked DROP CONSTRAINT parked_pkey, ADD PRIMARY KEY (subscription, id);
