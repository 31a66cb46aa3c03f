-- +goose Up

SET LOCAL search_path = pg_catalog, pg_temp;

-- A row per message and subscription with its status: delivered, pending, retry, held, scheduled, dead or discarded.
-- Status is derived from the cursor; only exceptions have a row of their own. (OFFSET 0: one regular expression per
-- subscription, not one per message.)
CREATE VIEW postrider.deliveries AS
SELECT s.name AS subscription, o.id, o.topic, o.key, o.created_at,
       CASE WHEN p.id IS NOT NULL THEN p.state
            WHEN pg_visible_in_snapshot(o.xid, c.base)
              OR (o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target))
              OR c.done @> o.id THEN 'delivered'
            ELSE 'pending' END AS status,
       p.attempts, p.due, p.reason
FROM postrider.subscriptions s
JOIN postrider.cursors c ON c.subscription = s.name
CROSS JOIN LATERAL (SELECT postrider.topic_regex(s.topics) AS regex OFFSET 0) r
JOIN postrider.outbox o
  ON o.topic ~ CASE WHEN s.earlier = '[]' THEN r.regex
                    ELSE postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, o.xid)) END
 AND NOT pg_visible_in_snapshot(o.xid, s.started)
LEFT JOIN postrider.parked p ON p.subscription = s.name AND p.id = o.id
UNION ALL
SELECT p.subscription, p.id, p.topic, p.key, p.created_at, p.state, p.attempts, p.due, p.reason
FROM postrider.parked p
JOIN postrider.subscriptions s ON s.name = p.subscription
WHERE NOT EXISTS (
    SELECT FROM postrider.outbox o
    WHERE o.id = p.id AND NOT pg_visible_in_snapshot(o.xid, s.started)
      AND o.topic ~ postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, o.xid)));

-- What a subscription has not settled: messages neither settled nor parked, the creation of the oldest of these, and the
-- segments of the ring that cannot be emptied because of it. (A function, for it does without the compilation that the
-- planner's estimates for many empty partitions would cause: seconds for a query of milliseconds.)
-- +goose StatementBegin
CREATE FUNCTION postrider.backlog(name text, OUT messages bigint, OUT oldest timestamptz, OUT segments bigint)
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
    regex := postrider.topic_regex(s.topics);
    top := pg_snapshot_xmax(c.base);
    running := ARRAY(SELECT pg_snapshot_xip(c.base));
    SELECT count(*), min(w.created_at) INTO messages, oldest
    FROM (SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o WHERE o.xid >= top
          UNION ALL
          SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o WHERE o.xid = ANY (running)) w
    WHERE w.topic ~ CASE WHEN s.earlier = '[]' THEN regex
                         ELSE postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, w.xid)) END
      AND NOT coalesce(w.id <= c.after_id AND pg_visible_in_snapshot(w.xid, c.target), false)
      AND NOT c.done @> w.id
      AND NOT EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = backlog.name AND p.id = w.id);
    -- Scalar queries stop at the first row of each segment.
    SELECT count(*) INTO segments FROM generate_series(0, 15) g (segment)
    WHERE coalesce((SELECT true FROM postrider.outbox o WHERE o.segment = g.segment::smallint AND o.xid >= top LIMIT 1),
                   (SELECT true FROM postrider.outbox o WHERE o.segment = g.segment::smallint AND o.xid = ANY (running) LIMIT 1));
END $$;
-- +goose StatementEnd

-- A row per subscription: where it stands. lag_messages counts what is neither settled nor parked; lag_seconds is the age of
-- the oldest of these; segments_held counts segments of the ring that cannot be emptied because of this subscription.
CREATE VIEW postrider.subscription_status AS
SELECT s.name, s.state, s.paused_reason, c.trouble, s.topics, r.name AS owner,
       lag.messages AS lag_messages,
       coalesce(extract(epoch FROM clock_timestamp() - lag.oldest), 0)::double precision AS lag_seconds,
       parked.retrying, parked.held, parked.scheduled, parked.dead, parked.discarded,
       lag.segments AS segments_held,
       c.saved_at
FROM postrider.subscriptions s
JOIN postrider.cursors c ON c.subscription = s.name
LEFT JOIN postrider.relays r ON r.incarnation = c.owner
CROSS JOIN LATERAL postrider.backlog(s.name) lag
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE p.state = 'retry') AS retrying, count(*) FILTER (WHERE p.state = 'held') AS held,
           count(*) FILTER (WHERE p.state = 'scheduled') AS scheduled, count(*) FILTER (WHERE p.state = 'dead') AS dead,
           count(*) FILTER (WHERE p.state = 'discarded') AS discarded
    FROM postrider.parked p WHERE p.subscription = s.name
) parked;

-- Nothing in this schema is anybody's business until it is granted: see `postrider grants`.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA postrider FROM PUBLIC;

-- +goose Down
DROP VIEW postrider.subscription_status, postrider.deliveries;
DROP FUNCTION postrider.backlog(text);
