SET LOCAL search_path = pg_catalog, pg_temp;

-- Status is derived from the cursor; only exceptions have a row of their own. (OFFSET 0: one regular expression per subscription, not
-- one per message. Earlier topics that are none are left out: whoever finds them pauses the subscription, and status must not fail for all.)
CREATE VIEW postrider.deliveries AS
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
COMMENT ON VIEW postrider.deliveries IS 'A row per message and subscription with its status.';
COMMENT ON COLUMN postrider.deliveries.subscription IS 'Who wants the message.';
COMMENT ON COLUMN postrider.deliveries.id IS 'The message''s id in the outbox.';
COMMENT ON COLUMN postrider.deliveries.topic IS 'The message''s topic.';
COMMENT ON COLUMN postrider.deliveries.key IS 'The message''s key.';
COMMENT ON COLUMN postrider.deliveries.created_at IS 'When the message was inserted.';
COMMENT ON COLUMN postrider.deliveries.status IS 'delivered, pending, retrying, held, scheduled, leased, dead or discarded.';
COMMENT ON COLUMN postrider.deliveries.attempts IS 'How often it was tried, if it is an exception.';
COMMENT ON COLUMN postrider.deliveries.due IS 'When it is tried, or its lease ends.';
COMMENT ON COLUMN postrider.deliveries.reason IS 'What was wrong with the last attempt.';

-- jit = off, here and below: the planner's estimates for many empty partitions would cause a compilation that takes seconds, for queries of
-- milliseconds. Rows of a pass under way are found by their ids from where it has come to, others by their transactions.
CREATE FUNCTION postrider.backlog_up_to(s postrider.subscriptions, c postrider.cursors, most bigint,
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
                AND NOT (c.done @> w.id AND w.created_at <= c.saved_at)
                AND (c.done_ids = '{}' OR NOT EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last)
                                                      WHERE d.ids @> w.id AND w.created_at BETWEEN d.first AND d.last))
                AND NOT EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = s.name AND p.id = w.id AND p.created_at = w.created_at) AS wanted
        FROM (
            (SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o
             WHERE c.after_id IS NOT NULL AND o.id > after AND (o.xid >= top OR o.xid = ANY (running)) ORDER BY o.id LIMIT most + 1)
            UNION ALL
            (SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o
             WHERE o.xid >= later AND (c.after_id IS NULL OR o.id <= after) ORDER BY o.xid LIMIT most + 1)
            UNION ALL
            (SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o
             WHERE o.xid = ANY (open) AND (c.after_id IS NULL OR o.id <= after) LIMIT most + 1)
        ) w
        LIMIT most + 1
    ) w;
    more := seen > most;
    messages := least(messages, most);
END $$;
COMMENT ON FUNCTION postrider.backlog_up_to IS 'What one cursor has not settled: messages neither settled nor parked, and the creation of the oldest of these. At most so many rows are looked at: more says that there are others behind them.';

-- What is common to all is looked up once: which segments hold what, and the newest messages by topic. Most subscriptions have settled all,
-- or what is new is nothing for them. Those that are far behind, or have something settled in between, are looked at one by one, two hundred
-- thousand rows in all: beyond these there is more.
CREATE FUNCTION postrider.backlogs()
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
        SELECT s.name, s.topics, pg_snapshot_xmax(c.base) AS top, pg_snapshot_xmax(c.base)::text::bigint AS n,
               cardinality(held) > 0 AND EXISTS (SELECT FROM pg_snapshot_xip(c.base) x WHERE x = ANY (held)) AS holds,
               c.target IS NULL AND c.done = '{}' AND c.done_ids = '{}' AND s.earlier = '[]' AS plain, s, c
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
        SELECT j.name, least(greatest(200000 / count(*) OVER (), 200), 200000) AS most FROM judged j WHERE NOT j.settled AND NOT j.near
    )
    SELECT j.name, coalesce(b.messages, k.messages, 0), coalesce(b.oldest, k.oldest),
           CASE WHEN j.settled THEN 0 ELSE (
               SELECT count(*) FROM generate_series(1, 16) g WHERE newest[g] >= j.n
                   OR j.holds AND EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = (g - 1)::smallint
                                          AND o.xid = ANY (ARRAY(SELECT pg_snapshot_xip((j.c).base))))) END,
           coalesce(b.more, false)
    FROM judged j LEFT JOIN counted k USING (name) LEFT JOIN far f USING (name)
    LEFT JOIN LATERAL postrider.backlog_up_to(j.s, j.c, f.most) b ON f.name IS NOT NULL;
END $$;
COMMENT ON FUNCTION postrider.backlogs IS 'Where all subscriptions stand: what they have not settled, and how many segments of the ring cannot be emptied because of it.';

CREATE VIEW postrider.subscription_status AS
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
JOIN postrider.cursors c ON c.subscription = lag.name
LEFT JOIN postrider.relays r ON r.incarnation = c.owner
LEFT JOIN (
    SELECT p.subscription, count(*) FILTER (WHERE p.state IN ('retrying', 'failed')) AS retrying, count(*) FILTER (WHERE p.state = 'held') AS held,
           count(*) FILTER (WHERE p.state = 'scheduled') AS scheduled, count(*) FILTER (WHERE p.state = 'leased') AS leased,
           count(*) FILTER (WHERE p.state = 'dead') AS dead, count(*) FILTER (WHERE p.state = 'discarded') AS discarded
    FROM postrider.parked p GROUP BY p.subscription
) parked ON parked.subscription = s.name;
COMMENT ON VIEW postrider.subscription_status IS 'A row per subscription: where it stands.';
COMMENT ON COLUMN postrider.subscription_status.name IS 'The subscription.';
COMMENT ON COLUMN postrider.subscription_status.state IS 'active or paused.';
COMMENT ON COLUMN postrider.subscription_status.paused_reason IS 'Why it is paused.';
COMMENT ON COLUMN postrider.subscription_status.trouble IS 'Why deliveries stand still, when they do.';
COMMENT ON COLUMN postrider.subscription_status.topics IS 'Its patterns.';
COMMENT ON COLUMN postrider.subscription_status.owner IS 'The relay that delivers.';
COMMENT ON COLUMN postrider.subscription_status.lag_messages IS 'How many messages are neither settled nor parked, or as many of them as can be counted in time.';
COMMENT ON COLUMN postrider.subscription_status.lag_more IS 'There may be more than lag_messages.';
COMMENT ON COLUMN postrider.subscription_status.lag_seconds IS 'The age of the oldest of them.';
COMMENT ON COLUMN postrider.subscription_status.retrying IS 'Parked messages that failed and are tried again.';
COMMENT ON COLUMN postrider.subscription_status.held IS 'Parked messages that wait behind another one of their key.';
COMMENT ON COLUMN postrider.subscription_status.scheduled IS 'Parked messages that wait for their time.';
COMMENT ON COLUMN postrider.subscription_status.leased IS 'Parked messages that wait for a callback.';
COMMENT ON COLUMN postrider.subscription_status.dead IS 'Dead letters.';
COMMENT ON COLUMN postrider.subscription_status.discarded IS 'Parked messages that were given up.';
COMMENT ON COLUMN postrider.subscription_status.segments_held IS 'How many segments of the ring cannot be emptied because of this subscription.';
COMMENT ON COLUMN postrider.subscription_status.saved_at IS 'When progress was last written.';
