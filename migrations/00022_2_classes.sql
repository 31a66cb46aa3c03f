SET LOCAL search_path = pg_catalog, pg_temp;

-- A subscription with priorities has a cursor per class, 1 to 4, all with one owner and one epoch; any other has one, class 0.

-- One SQL expression, so that the planner inlines it.
CREATE FUNCTION postrider.class_of(priority smallint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN least(greatest(priority, 1::smallint), 4::smallint);
COMMENT ON FUNCTION postrider.class_of IS 'The class that a priority belongs to: the nearest that there is.';

COMMENT ON COLUMN postrider.cursors.class IS 'Which priority, 1 to 4: the cursor says nothing of others. 0, for all of them, where the subscription has no priorities.';
COMMENT ON COLUMN postrider.parked.class IS 'The part of the subscription whose cursor passed the message: its class, which is that of its priority, or 0 if the subscription had no priorities then.';

-- Settled is the same before and after. A class begins where the cursor of all stood, and what that has settled beyond its base is settled for
-- each; back from classes it goes when all of them have come to one snapshot and no further: their owner sees to that.
CREATE FUNCTION postrider.arrange_classes(subscription text, relay uuid) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    wanted boolean;
BEGIN
    IF NOT postrider.lock_subscription(subscription)
       OR EXISTS (SELECT FROM postrider.cursors c WHERE c.subscription = arrange_classes.subscription AND c.owner IS DISTINCT FROM relay) THEN
        RETURN false;
    END IF;
    SELECT coalesce(s.settings -> 'priorities' = 'true', false) INTO wanted FROM postrider.subscriptions s WHERE s.name = arrange_classes.subscription;
    IF wanted THEN
        INSERT INTO postrider.cursors (subscription, shard, class, epoch, owner, base, target, after_id, done, done_ids, done_first, done_last, trouble, saved_at)
        SELECT c.subscription, c.shard, g::smallint, c.epoch, c.owner, c.base, c.target, c.after_id, c.done, c.done_ids, c.done_first, c.done_last, c.trouble, c.saved_at
        FROM postrider.cursors c CROSS JOIN generate_series(1, 4) g
        WHERE c.subscription = arrange_classes.subscription AND c.class = 0;
        DELETE FROM postrider.cursors c WHERE c.subscription = arrange_classes.subscription AND c.class = 0;
        RETURN FOUND;
    END IF;
    IF EXISTS (SELECT FROM postrider.cursors c WHERE c.subscription = arrange_classes.subscription
               GROUP BY c.shard HAVING count(DISTINCT c.base::text) > 1 OR count(c.target) > 0 OR bool_or(c.done <> '{}' OR c.done_ids <> '{}')) THEN
        RETURN false;
    END IF;
    DELETE FROM postrider.cursors c WHERE c.subscription = arrange_classes.subscription AND c.class > 1;
    UPDATE postrider.cursors c SET class = 0 WHERE c.subscription = arrange_classes.subscription AND c.class = 1;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.arrange_classes IS 'Gives a subscription, which the relay owns, the cursors that its setting priorities asks for. False: it has them, the relay does not own it, or its classes have not come to one snapshot yet.';

CREATE FUNCTION postrider.snapshot_of_both(a pg_snapshot, b pg_snapshot) RETURNS pg_snapshot
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN postrider.make_snapshot(least(pg_snapshot_xmax(a), pg_snapshot_xmax(b)),
        ARRAY(SELECT pg_snapshot_xip(a) UNION SELECT pg_snapshot_xip(b)));
COMMENT ON FUNCTION postrider.snapshot_of_both IS 'The snapshot that sees what both see.';

CREATE OR REPLACE FUNCTION postrider.replay(name text, start text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    start_base pg_snapshot;
    cursor     record;
    again      pg_snapshot; -- what is delivered again, or was pending, of any class is not in it
BEGIN
    PERFORM postrider.keep_segments();
    IF NOT postrider.lock_subscription(name) THEN
        RETURN false;
    END IF;
    start_base := postrider.start_snapshot(start);
    again := start_base;
    FOR cursor IN SELECT c.shard, c.class, c.base FROM postrider.cursors c WHERE c.subscription = replay.name ORDER BY c.shard, c.class LOOP
        IF NOT postrider.snapshot_covers(start_base, cursor.base) THEN
            cursor.base := postrider.snapshot_of_both(start_base, cursor.base);
            again := postrider.snapshot_of_both(again, cursor.base);
        ELSE
            cursor.base := start_base;
        END IF;
        UPDATE postrider.cursors c
        SET base = cursor.base, target = NULL, after_id = NULL, done = '{}',
            done_ids = '{}', done_first = '{}', done_last = '{}', epoch = c.epoch + 1
        WHERE c.subscription = replay.name AND c.shard = cursor.shard AND c.class = cursor.class;
    END LOOP;
    UPDATE postrider.subscriptions s
    SET started = CASE WHEN postrider.snapshot_covers(again, s.started) THEN s.started ELSE again END,
        version = s.version + 1, updated_at = now()
    WHERE s.name = replay.name;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION postrider.attempt_state(subscription text, id bigint, token bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    p postrider.parked;
BEGIN
    SELECT * INTO p FROM postrider.parked q
    WHERE q.subscription = attempt_state.subscription AND q.id = attempt_state.id AND q.token = attempt_state.token;
    IF FOUND THEN
        RETURN CASE WHEN p.state = 'leased' AND p.due > clock_timestamp() THEN 'waiting' ELSE 'over' END;
    END IF;
    RETURN CASE WHEN EXISTS (
        SELECT FROM postrider.parked q
        WHERE q.subscription = attempt_state.subscription AND q.id = attempt_state.id
          AND (q.state = 'held' OR q.state IN ('retrying', 'scheduled') AND coalesce(q.due <= clock_timestamp() + interval '5 minutes', true))
    ) OR EXISTS (
        SELECT FROM postrider.outbox o JOIN postrider.cursors c ON c.subscription = attempt_state.subscription
        WHERE o.id = attempt_state.id AND c.class IN (0, postrider.class_of(o.priority)) AND NOT pg_visible_in_snapshot(o.xid, c.base)
          AND NOT (c.done @> o.id AND o.created_at <= c.saved_at)
          AND NOT EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last)
                          WHERE d.ids @> o.id AND o.created_at BETWEEN d.first AND d.last)
          AND NOT coalesce(o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target), false)
          AND NOT EXISTS (SELECT FROM postrider.parked q WHERE q.subscription = attempt_state.subscription
                          AND q.id = o.id AND q.created_at = o.created_at)
    ) THEN 'early' ELSE 'over' END;
END $$;

CREATE OR REPLACE VIEW postrider.deliveries AS
SELECT s.name AS subscription, o.id, o.topic, o.key, o.created_at,
       CASE WHEN p.state = 'completed' THEN 'delivered'
            WHEN p.state = 'failed' THEN 'retrying'
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
 AND c.class IN (0, postrider.class_of(o.priority))
LEFT JOIN postrider.parked p ON p.subscription = s.name AND p.id = o.id AND p.created_at = o.created_at
UNION ALL
SELECT p.subscription, p.id, p.topic, p.key, p.created_at,
       CASE p.state WHEN 'completed' THEN 'delivered' WHEN 'failed' THEN 'retrying' ELSE p.state END, p.attempts, p.due, p.reason
FROM postrider.parked p
JOIN postrider.subscriptions s ON s.name = p.subscription
WHERE NOT EXISTS (
    SELECT FROM postrider.outbox o
    WHERE o.id = p.id AND o.created_at = p.created_at AND NOT pg_visible_in_snapshot(o.xid, s.started)
      AND o.topic ~ postrider.topic_regex(postrider.topics_at(s.topics,
          CASE WHEN s.earlier <> '[]' AND postrider.valid_earlier(s.earlier) THEN s.earlier ELSE '[]' END, o.xid)));

CREATE OR REPLACE FUNCTION postrider.backlog_up_to(s postrider.subscriptions, c postrider.cursors, most bigint,
        OUT messages bigint, OUT oldest timestamptz, OUT more boolean)
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_sort = off AS $$
DECLARE
    regex   text := postrider.topic_regex(s.topics);
    top     xid8 := pg_snapshot_xmax(c.base);
    running xid8[] := ARRAY(SELECT pg_snapshot_xip(c.base));
    -- Of a pass: what came before this id is settled unless it is invisible in its target.
    after   bigint := coalesce(c.after_id, -9223372036854775808);
    later   xid8 := pg_snapshot_xmax(coalesce(c.target, c.base));
    open    xid8[] := ARRAY(SELECT pg_snapshot_xip(coalesce(c.target, c.base)));
    seen    bigint;
BEGIN
    SELECT count(*) FILTER (WHERE w.wanted), min(w.created_at) FILTER (WHERE w.wanted AND isfinite(w.created_at)), count(*)
    INTO messages, oldest, seen
    FROM (
        SELECT w.created_at, w.topic ~ CASE WHEN s.earlier = '[]' THEN regex
                                            ELSE postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, w.xid)) END
                AND c.class IN (0, postrider.class_of(w.priority))
                AND NOT (c.done @> w.id AND w.created_at <= c.saved_at)
                AND (c.done_ids = '{}' OR NOT EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last)
                                                      WHERE d.ids @> w.id AND w.created_at BETWEEN d.first AND d.last))
                AND NOT EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = s.name AND p.id = w.id AND p.created_at = w.created_at) AS wanted
        FROM (
            (SELECT o.id, o.xid, o.topic, o.created_at, o.priority FROM postrider.outbox o
             WHERE c.after_id IS NOT NULL AND o.id > after AND (o.xid >= top OR o.xid = ANY (running)) ORDER BY o.id LIMIT most + 1)
            UNION ALL
            (SELECT o.id, o.xid, o.topic, o.created_at, o.priority FROM postrider.outbox o
             WHERE o.xid >= later AND (c.after_id IS NULL OR o.id <= after) ORDER BY o.xid LIMIT most + 1)
            UNION ALL
            (SELECT o.id, o.xid, o.topic, o.created_at, o.priority FROM postrider.outbox o
             WHERE o.xid = ANY (open) AND (c.after_id IS NULL OR o.id <= after) LIMIT most + 1)
        ) w
        LIMIT most + 1
    ) w;
    more := seen > most;
    messages := least(messages, most);
END $$;

CREATE OR REPLACE FUNCTION postrider.backlogs()
    RETURNS TABLE (name text, messages bigint, oldest timestamptz, segments bigint, more boolean)
    LANGUAGE plpgsql STABLE ROWS 1000 SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    recent CONSTANT bigint := 5000;
    newest bigint[]; -- per segment, the greatest transaction id
    held   xid8[];    -- transactions that some cursor had running and that have messages
    since  xid8;      -- of the newest messages
    behind bigint;
BEGIN
    newest := ARRAY(SELECT (SELECT o.xid::text::bigint FROM postrider.outbox o WHERE o.segment = g::smallint ORDER BY o.xid DESC LIMIT 1)
                    FROM generate_series(0, 15) g);
    held := ARRAY(SELECT DISTINCT o.xid FROM postrider.outbox o WHERE o.xid = ANY (ARRAY(
        SELECT DISTINCT x::text FROM (SELECT DISTINCT c.base::text AS base FROM postrider.cursors c) b, pg_snapshot_xip(b.base::pg_snapshot) x)::xid8[]));
    since := coalesce((SELECT o.xid FROM postrider.outbox o ORDER BY o.xid DESC OFFSET recent LIMIT 1), '0');

    RETURN QUERY
    WITH place AS MATERIALIZED (
        SELECT s.name, c.shard, c.class, s.topics, pg_snapshot_xmax(c.base) AS top, pg_snapshot_xmax(c.base)::text::bigint AS n,
               cardinality(held) > 0 AND EXISTS (SELECT FROM pg_snapshot_xip(c.base) x WHERE x = ANY (held)) AS holds,
               c.class = 0 AND c.target IS NULL AND c.done = '{}' AND c.done_ids = '{}' AND s.earlier = '[]' AS plain, s, c
        FROM postrider.subscriptions s JOIN postrider.cursors c ON c.subscription = s.name
    ), judged AS MATERIALIZED (
        SELECT p.*, NOT p.holds AND p.n > (SELECT coalesce(max(x), -1) FROM unnest(newest) x) AS settled,
               p.plain AND NOT p.holds AND p.top > since
               AND NOT EXISTS (SELECT FROM postrider.parked k WHERE k.subscription = p.name) AS near
        FROM place p
    ), message AS MATERIALIZED (
        SELECT o.topic::text AS topic, o.xid::text::bigint AS xid, o.created_at FROM postrider.outbox o WHERE o.xid > since
    ), topic AS MATERIALIZED ( -- of each its transactions, in order, and the oldest message from each of them on
        SELECT m.topic, array_agg(m.xid ORDER BY m.xid) AS xids, array_agg(m.oldest ORDER BY m.xid) AS oldest
        FROM (SELECT topic, xid, min(created_at) FILTER (WHERE isfinite(created_at)) OVER (PARTITION BY topic ORDER BY xid DESC RANGE UNBOUNDED PRECEDING) AS oldest
              FROM message) m
        GROUP BY m.topic
    ), wants AS (
        SELECT j.name, t.topic FROM judged j CROSS JOIN LATERAL unnest(j.topics) p (pattern) JOIN topic t ON t.topic = p.pattern
        WHERE j.near AND NOT j.settled
        UNION
        SELECT j.name, t.topic FROM judged j
        CROSS JOIN LATERAL (SELECT postrider.topic_regex(ARRAY(SELECT p FROM unnest(j.topics) p WHERE p ~ '[*>]')) AS regex OFFSET 0) r
        JOIN topic t ON t.topic ~ r.regex
        WHERE j.near AND NOT j.settled AND EXISTS (SELECT FROM unnest(j.topics) p WHERE p ~ '[*>]')
    ), counted AS (
        SELECT w.name, sum(cardinality(t.xids) - k.before)::bigint AS messages, min(t.oldest[k.before + 1]) AS oldest
        FROM wants w JOIN judged j USING (name) JOIN topic t USING (topic)
        CROSS JOIN LATERAL (SELECT width_bucket(j.n - 1, t.xids) AS before) k
        GROUP BY w.name
    ), far AS MATERIALIZED (
        SELECT j.name, j.shard, j.class, least(greatest(200000 / count(*) OVER (), 200), 200000) AS most FROM judged j WHERE NOT j.settled AND NOT j.near
    )
    SELECT j.name, sum(coalesce(b.messages, k.messages, 0))::bigint, min(coalesce(b.oldest, k.oldest)),
           max(CASE WHEN j.settled THEN 0 ELSE (
               SELECT count(*) FROM generate_series(1, 16) g WHERE newest[g] >= j.n
                   OR j.holds AND EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = (g - 1)::smallint
                                          AND o.xid = ANY (ARRAY(SELECT pg_snapshot_xip((j.c).base))))) END),
           bool_or(coalesce(b.more, false))
    FROM judged j LEFT JOIN counted k USING (name) LEFT JOIN far f USING (name, shard, class)
    LEFT JOIN LATERAL postrider.backlog_up_to(j.s, j.c, f.most) b ON f.name IS NOT NULL
    GROUP BY j.name;
END $$;

CREATE OR REPLACE VIEW postrider.subscription_status AS
SELECT s.name, s.state, s.paused_reason, c.trouble, s.topics, r.name AS owner,
       lag.messages AS lag_messages,
       lag.more AS lag_more,
       coalesce(extract(epoch FROM clock_timestamp() - lag.oldest), 0)::double precision AS lag_seconds,
       coalesce(parked.retrying, 0) AS retrying, coalesce(parked.held, 0) AS held, coalesce(parked.scheduled, 0) AS scheduled,
       coalesce(parked.leased, 0) AS leased, coalesce(parked.dead, 0) AS dead, coalesce(parked.discarded, 0) AS discarded,
       lag.segments AS segments_held,
       c.saved_at
FROM postrider.backlogs() lag
JOIN postrider.subscriptions s ON s.name = lag.name
CROSS JOIN LATERAL (
    SELECT * FROM postrider.cursors c WHERE c.subscription = lag.name ORDER BY c.saved_at DESC, c.shard, c.class LIMIT 1
) c
LEFT JOIN postrider.relays r ON r.incarnation = c.owner
LEFT JOIN (
    SELECT p.subscription, count(*) FILTER (WHERE p.state IN ('retrying', 'failed')) AS retrying, count(*) FILTER (WHERE p.state = 'held') AS held,
           count(*) FILTER (WHERE p.state = 'scheduled') AS scheduled, count(*) FILTER (WHERE p.state = 'leased') AS leased,
           count(*) FILTER (WHERE p.state = 'dead') AS dead, count(*) FILTER (WHERE p.state = 'discarded') AS discarded
    FROM postrider.parked p GROUP BY p.subscription
) parked ON parked.subscription = s.name;

CREATE OR REPLACE FUNCTION postrider.rebase(new_source_id boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    here_cluster  bigint := (SELECT system_identifier FROM pg_control_system());
    here_database oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    origin        postrider.source;
    me            numeric := pg_current_xact_id()::text::numeric;
    fresh         pg_snapshot;
    retained      bigint;
    sub           record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'rebase needs a READ COMMITTED transaction, not %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = '25001';
    END IF;
    LOCK TABLE postrider.source IN EXCLUSIVE MODE;
    LOCK TABLE postrider.outbox IN EXCLUSIVE MODE;
    SELECT * INTO STRICT origin FROM postrider.source FOR UPDATE;
    IF (origin.system_identifier, origin.database_oid) = (here_cluster, here_database) THEN
        RAISE EXCEPTION 'nothing to rebase: the schema postrider belongs to this database' USING ERRCODE = '55000';
    END IF;
    -- A segment gets its key when the copy has been filled. Rows that are younger and carry a transaction id that can be their
    -- own were enqueued here, since; the old snapshots say nothing of them. Within one cluster ids keep their meaning.

    FOR sub IN SELECT c.subscription AS name, c.shard, c.class FROM postrider.cursors c ORDER BY 1, 2, 3 LOOP
        PERFORM postrider.lock_subscription(sub.name);
        WITH message AS (
            SELECT o.*, s.topics, s.earlier, s.started, c.class, c.base, c.target, c.after_id, c.done, c.saved_at, c.done_ids, c.done_first, c.done_last, r.regex,
                   origin.system_identifier <> here_cluster AND o.full_xid > o.copied AND o.full_xid <= me - o.age AS native
            FROM postrider.subscriptions s
            JOIN postrider.cursors c ON c.subscription = s.name AND c.shard = sub.shard AND c.class = sub.class
            CROSS JOIN LATERAL (SELECT postrider.topic_regex(s.topics) AS regex OFFSET 0) r
            CROSS JOIN (
                SELECT m.id, m.xid, m.created_at, m.topic, m.priority, m.xid::text::numeric AS full_xid, age(m.xmin) AS age, coalesce(me - age(k.xmin), me) AS copied
                FROM postrider.outbox m LEFT JOIN pg_constraint k ON k.conrelid = m.tableoid AND k.contype = 'p') o
            WHERE s.name = sub.name
        ), judged AS (
            SELECT m.id,
                   (m.id, m.created_at) IN (SELECT p.id, p.created_at FROM postrider.parked p WHERE p.subscription = sub.name)
                   OR m.class NOT IN (0, postrider.class_of(m.priority)) -- another cursor's
                   OR m.topic !~ CASE WHEN m.native OR m.earlier = '[]' THEN m.regex
                                      ELSE postrider.topic_regex(postrider.topics_at(m.topics, m.earlier, m.xid)) END
                   OR NOT m.native AND (
                       pg_visible_in_snapshot(m.xid, m.base) OR pg_visible_in_snapshot(m.xid, m.started)
                       OR m.done @> m.id AND m.created_at <= m.saved_at
                       OR EXISTS (SELECT FROM unnest(m.done_ids, m.done_first, m.done_last) d (ids, first, last)
                                  WHERE d.ids @> m.id AND m.created_at BETWEEN d.first AND d.last)
                       OR coalesce(m.id <= m.after_id AND pg_visible_in_snapshot(m.xid, m.target), false)) AS settled
            FROM message m
        ), run AS (
            -- Settled messages with no other in between make one range, whatever ids were never used. An id that came twice is settled
            -- if both are.
            SELECT int8range(min(n.id), max(n.id), '[]') AS ids
            FROM (SELECT j.id, j.settled, count(*) FILTER (WHERE NOT j.settled) OVER (ORDER BY j.id) AS before
                  FROM (SELECT id, bool_and(judged.settled) AS settled FROM judged GROUP BY id) j) n
            WHERE n.settled GROUP BY n.before
        )
        UPDATE postrider.cursors c
        SET done = coalesce((SELECT range_agg(run.ids) FROM run), '{}'), target = NULL, after_id = NULL,
            done_ids = '{}', done_first = '{}', done_last = '{}'
        WHERE c.subscription = sub.name AND c.shard = sub.shard AND c.class = sub.class;
    END LOOP;

    -- Logical replication leaves sequences behind: an id must not come twice.
    PERFORM setval('postrider.outbox_id_seq', m.id)
    FROM (SELECT greatest((SELECT max(id) FROM postrider.outbox), (SELECT max(id) FROM postrider.parked)) AS id) m
    WHERE m.id > (SELECT last_value FROM postrider.outbox_id_seq);
    UPDATE postrider.outbox SET xid = pg_current_xact_id();
    GET DIAGNOSTICS retained = ROW_COUNT;
    UPDATE postrider.parked SET xid = NULL WHERE xid IS NOT NULL;
    fresh := postrider.snapshot_before_me();
    -- What is not in done is wanted, also if it was by earlier topics alone.
    UPDATE postrider.subscriptions s SET started = fresh, earlier = CASE WHEN s.earlier = '[]' THEN '[]' ELSE jsonb_build_array(
        jsonb_build_object('until', postrider.snapshot_after_me()::text, 'topics', ARRAY(
            SELECT unnest(s.topics) UNION
            SELECT jsonb_array_elements_text(e -> 'topics') FROM jsonb_array_elements(s.earlier) e))) END;
    UPDATE postrider.cursors SET base = fresh, epoch = epoch + 1, owner = NULL, trouble = NULL, saved_at = clock_timestamp();
    DELETE FROM postrider.relays;
    UPDATE postrider.source SET system_identifier = here_cluster, database_oid = here_database,
        id = CASE WHEN coalesce(new_source_id, false) THEN left(replace(gen_random_uuid()::text, '-', ''), 8) ELSE id END;
    RETURN retained;
END $$;

REVOKE ALL ON FUNCTION postrider.class_of(smallint), postrider.arrange_classes(text, uuid), postrider.snapshot_of_both(pg_snapshot, pg_snapshot) FROM PUBLIC;
