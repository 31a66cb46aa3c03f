SET LOCAL search_path = pg_catalog, pg_temp;

-- Where all stand is told in the time of a glance, however many messages wait, and however many are parked. A plan for each look at one of them would
-- take longer than the look.
CREATE OR REPLACE FUNCTION postrider.backlog_up_to(s postrider.subscriptions, c postrider.cursors, most bigint, OUT messages bigint, OUT oldest timestamp with time zone, OUT more boolean)
    RETURNS record
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan AS $$
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

-- What is common to all is looked up once: which segments hold what, and the newest messages by topic. Most subscriptions have settled all, or what
-- is new is nothing for them, or has not settled what the newest messages tell. Some of those that are far behind, or have something settled in
-- between, are looked at one by one, forty thousand rows in all, ten thousand of each at most. Of all others it is told what they want of the newest messages, and that there is more.
CREATE OR REPLACE FUNCTION postrider.backlogs()
    RETURNS TABLE(name text, messages bigint, oldest timestamp with time zone, segments bigint, more boolean)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    recent CONSTANT bigint := 5000;
    looks  CONSTANT bigint := 50;
    rows   CONSTANT bigint := 40000;
    each   CONSTANT bigint := 10000;
    newest bigint[]; -- per segment, the greatest transaction id
    held   xid8[];    -- transactions that some cursor had running and that have messages
    since  xid8;      -- of the newest messages
BEGIN
    newest := ARRAY(SELECT (SELECT o.xid::text::bigint FROM postrider.outbox o WHERE o.segment = g::smallint ORDER BY o.xid DESC LIMIT 1)
                    FROM generate_series(0, 15) g);
    held := ARRAY(SELECT DISTINCT o.xid FROM postrider.outbox o WHERE o.xid = ANY (ARRAY(
        SELECT DISTINCT x::text FROM (SELECT DISTINCT c.base::text AS base FROM postrider.cursors c) b, pg_snapshot_xip(b.base::pg_snapshot) x)::xid8[]));
    since := coalesce((SELECT o.xid FROM postrider.outbox o ORDER BY o.xid DESC OFFSET recent LIMIT 1), '0');

    RETURN QUERY
    WITH message AS MATERIALIZED (
        SELECT o.id, o.topic::text AS topic, o.xid::text::bigint AS xid, o.created_at FROM postrider.outbox o WHERE o.xid > since
    ), place AS MATERIALIZED (
        SELECT s.name, c.shard, c.class, s.topics, pg_snapshot_xmax(c.base) AS top, pg_snapshot_xmax(c.base)::text::bigint AS n,
               cardinality(held) > 0 AND EXISTS (SELECT FROM pg_snapshot_xip(c.base) x WHERE x = ANY (held)) AS holds,
               c.class = 0 AND c.target IS NULL AND c.done = '{}' AND c.done_ids = '{}' AND s.earlier = '[]' AS plain, s, c
        FROM postrider.subscriptions s JOIN postrider.cursors c ON c.subscription = s.name
    ), judged AS MATERIALIZED (
        SELECT p.*, NOT p.holds AND p.n > (SELECT coalesce(max(x), -1) FROM unnest(newest) x) AS settled,
               p.plain AND NOT p.holds AND p.top > since
               AND NOT EXISTS (SELECT FROM postrider.parked k WHERE k.subscription = p.name AND k.id >= (SELECT min(m.id) FROM message m)) AS near
        FROM place p
    ), far AS MATERIALIZED (
        SELECT j.name, j.shard, j.class, least(greatest(rows / count(*) OVER (), 200), each) AS most FROM (
            SELECT j.name, j.shard, j.class FROM judged j WHERE NOT j.settled AND NOT j.near ORDER BY j.top > since DESC, j.top, j.name, j.class LIMIT looks) j
    ), glanced AS MATERIALIZED ( -- the newest messages tell of these; of several classes, once
        SELECT j.name, j.shard, j.class, j.top, j.n, j.topics, false AS exact FROM judged j
        WHERE NOT j.settled AND NOT j.near AND j.class IN (0, 1) AND NOT EXISTS (SELECT FROM far f WHERE (f.name, f.shard, f.class) = (j.name, j.shard, j.class))
        UNION ALL
        SELECT j.name, j.shard, j.class, j.top, j.n, j.topics, true FROM judged j WHERE j.near AND NOT j.settled
    ), topic AS MATERIALIZED ( -- of each its transactions, in order, and the oldest message from each of them on
        SELECT m.topic, array_agg(m.xid ORDER BY m.xid) AS xids, array_agg(m.oldest ORDER BY m.xid) AS oldest
        FROM (SELECT topic, xid, min(created_at) FILTER (WHERE isfinite(created_at)) OVER (PARTITION BY topic ORDER BY xid DESC RANGE UNBOUNDED PRECEDING) AS oldest
              FROM message) m
        GROUP BY m.topic
    ), pattern AS MATERIALIZED ( -- of many subscriptions, once
        SELECT p.pattern, substring(p.pattern FROM '^[^*>]*') AS start, postrider.topic_regex(ARRAY[p.pattern]) AS regex
        FROM (SELECT DISTINCT p.pattern FROM glanced j CROSS JOIN LATERAL unnest(j.topics) p (pattern) WHERE p.pattern ~ '[*>]') p
    ), match AS MATERIALIZED (
        SELECT p.pattern, m.topic FROM pattern p CROSS JOIN LATERAL (
            SELECT t.topic FROM topic t WHERE starts_with(t.topic, p.start) AND t.topic ~ p.regex OFFSET 0) m
        UNION ALL
        SELECT t.topic, t.topic FROM topic t
    ), wants AS MATERIALIZED (
        SELECT DISTINCT j.name, m.topic FROM glanced j CROSS JOIN LATERAL unnest(j.topics) p (pattern) JOIN match m ON m.pattern = p.pattern
    ), counted AS (
        SELECT w.name, sum(cardinality(t.xids) - k.before)::bigint AS messages, min(t.oldest[k.before + 1]) AS oldest
        FROM wants w JOIN glanced j USING (name) JOIN topic t USING (topic)
        CROSS JOIN LATERAL (SELECT width_bucket(j.n - 1, t.xids) AS before) k
        GROUP BY w.name
    ), place_of AS MATERIALIZED ( -- what came first after the places of some of these
        SELECT d.top, (SELECT o.created_at FROM postrider.outbox o WHERE o.xid >= d.top ORDER BY o.xid LIMIT 1) AS oldest
        FROM (SELECT DISTINCT g.top FROM glanced g WHERE NOT g.exact AND g.top <= since ORDER BY g.top LIMIT looks) d
    )
    SELECT j.name, sum(coalesce(b.messages, k.messages, 0))::bigint, min(coalesce(b.oldest, CASE WHEN k.messages > 0 AND isfinite(p.oldest) THEN p.oldest END, k.oldest)),
           max(CASE WHEN j.settled THEN 0 ELSE (
               SELECT count(*) FROM generate_series(1, 16) g WHERE newest[g] >= j.n
                   OR j.holds AND EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = (g - 1)::smallint
                                          AND o.xid = ANY (ARRAY(SELECT pg_snapshot_xip((j.c).base))))) END),
           bool_or(coalesce(b.more, NOT g.exact AND (k.messages > 0 OR j.top <= since), false))
    FROM judged j LEFT JOIN far f USING (name, shard, class) LEFT JOIN glanced g USING (name, shard, class)
    LEFT JOIN counted k ON k.name = g.name
    LEFT JOIN place_of p ON p.top = j.top AND NOT g.exact
    LEFT JOIN LATERAL postrider.backlog_up_to(j.s, j.c, f.most) b ON f.name IS NOT NULL
    GROUP BY j.name;
END $$;

DO $$
DECLARE
    text text := pg_get_functiondef('postrider.shard_backlogs()'::regprocedure);
BEGIN
    IF position('greatest(200000 /' IN text) = 0 THEN
        RAISE EXCEPTION 'postrider.shard_backlogs has changed';
    END IF;
    EXECUTE replace(text, 'greatest(200000 /', 'greatest(10000 /');
END $$;

-- Lists by state, and counts, look at nothing else.
CREATE INDEX parked_states ON postrider.parked (subscription, state, id);

CREATE FUNCTION postrider.parked_counts()
    RETURNS TABLE (subscription text, retrying bigint, held bigint, scheduled bigint, leased bigint, dead bigint, discarded bigint, cancelled bigint, more boolean)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE place (subscription, state) AS ( -- from each to the next, past all that is alike
        (SELECT p.subscription, p.state FROM postrider.parked p ORDER BY p.subscription, p.state LIMIT 1)
        UNION ALL
        SELECT n.subscription, n.state FROM place l CROSS JOIN LATERAL (
            SELECT p.subscription, p.state FROM postrider.parked p WHERE (p.subscription, p.state) > (l.subscription, l.state)
            ORDER BY p.subscription, p.state LIMIT 1) n
    ), bound AS MATERIALIZED (
        SELECT l.subscription, l.state, least(greatest(20000 / count(*) OVER (), 20), 10000) AS most FROM place l
    ), counted AS MATERIALIZED (
        SELECT b.subscription, b.state, least(c.n, b.most) AS n, c.n > b.most AS more FROM bound b CROSS JOIN LATERAL (
            SELECT count(*) AS n FROM (SELECT FROM postrider.parked p WHERE p.subscription = b.subscription AND p.state = b.state LIMIT b.most + 1) p) c
    )
    SELECT c.subscription, coalesce(sum(c.n) FILTER (WHERE c.state IN ('retrying', 'failed')), 0)::bigint, coalesce(sum(c.n) FILTER (WHERE c.state = 'held'), 0)::bigint,
           coalesce(sum(c.n) FILTER (WHERE c.state = 'scheduled'), 0)::bigint, coalesce(sum(c.n) FILTER (WHERE c.state = 'leased'), 0)::bigint,
           coalesce(sum(c.n) FILTER (WHERE c.state = 'dead'), 0)::bigint, coalesce(sum(c.n) FILTER (WHERE c.state = 'discarded'), 0)::bigint,
           coalesce(sum(c.n) FILTER (WHERE c.state = 'cancelled'), 0)::bigint, bool_or(c.more)
    FROM counted c GROUP BY c.subscription;
END $$;
COMMENT ON FUNCTION postrider.parked_counts IS 'How many messages each subscription has parked, by state, as far as they are counted in a moment: twenty thousand in all, but twenty of each at least. more says that some of these numbers are only so many.';

CREATE OR REPLACE VIEW postrider.subscription_status AS
SELECT s.name, s.state, s.paused_reason, lag.trouble, s.topics, lag.owner,
       lag.messages AS lag_messages,
       lag.more AS lag_more,
       coalesce(extract(epoch FROM clock_timestamp() - lag.oldest), 0)::double precision AS lag_seconds,
       coalesce(k.retrying, 0) AS retrying, coalesce(k.held, 0) AS held, coalesce(k.scheduled, 0) AS scheduled,
       coalesce(k.leased, 0) AS leased, coalesce(k.dead, 0) AS dead, coalesce(k.discarded, 0) AS discarded,
       lag.segments AS segments_held,
       lag.saved_at,
       coalesce(k.cancelled, 0) AS cancelled,
       coalesce(k.more, false) AS parked_more
FROM (
    SELECT b.name, b.messages, b.oldest, b.segments, b.more, c.trouble, r.name AS owner, c.saved_at
    FROM postrider.backlogs() b
    CROSS JOIN LATERAL (
        SELECT * FROM postrider.cursors c WHERE c.subscription = b.name ORDER BY c.saved_at DESC, c.shard, c.class LIMIT 1
    ) c
    LEFT JOIN postrider.relays r ON r.incarnation = c.owner
    UNION ALL
    SELECT b.name, b.messages, b.oldest, b.segments, b.more, NULL, NULL, b.saved_at FROM postrider.shard_backlogs() b
) lag
JOIN postrider.subscriptions s ON s.name = lag.name
LEFT JOIN postrider.parked_counts() k ON k.subscription = s.name;
COMMENT ON COLUMN postrider.subscription_status.parked_more IS 'There may be more parked messages than the counts say: they end at some number.';
COMMENT ON COLUMN postrider.subscription_status.lag_messages IS 'How many messages are neither settled nor parked, or as many of them as can be counted in a moment.';
COMMENT ON COLUMN postrider.subscription_status.lag_seconds IS 'The age of the oldest of them; where not all are counted, at least of the oldest that was seen.';
