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

-- A row per subscription: where it stands. lag_messages counts what is neither settled nor parked; lag_seconds is the age of
-- the oldest of these; segments_held counts segments of the ring that cannot be emptied because of this subscription.
CREATE VIEW postrider.subscription_status AS
SELECT s.name, s.state, s.paused_reason, c.trouble, s.topics, r.name AS owner,
       lag.messages AS lag_messages,
       coalesce(extract(epoch FROM clock_timestamp() - lag.oldest), 0)::double precision AS lag_seconds,
       parked.retrying, parked.held, parked.scheduled, parked.dead, parked.discarded,
       held.segments AS segments_held,
       c.saved_at
FROM postrider.subscriptions s
JOIN postrider.cursors c ON c.subscription = s.name
LEFT JOIN postrider.relays r ON r.incarnation = c.owner
CROSS JOIN LATERAL (SELECT postrider.topic_regex(s.topics) AS regex OFFSET 0) now
CROSS JOIN LATERAL (
    SELECT count(*) AS messages, min(w.created_at) AS oldest
    FROM (SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o WHERE o.xid >= pg_snapshot_xmax(c.base)
          UNION ALL
          SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o WHERE o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(c.base)))
         ) w
    WHERE w.topic ~ CASE WHEN s.earlier = '[]' THEN now.regex
                         ELSE postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, w.xid)) END
      AND NOT coalesce(w.id <= c.after_id AND pg_visible_in_snapshot(w.xid, c.target), false)
      AND NOT c.done @> w.id
      AND NOT EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = s.name AND p.id = w.id)
) lag
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE p.state = 'retry') AS retrying, count(*) FILTER (WHERE p.state = 'held') AS held,
           count(*) FILTER (WHERE p.state = 'scheduled') AS scheduled, count(*) FILTER (WHERE p.state = 'dead') AS dead,
           count(*) FILTER (WHERE p.state = 'discarded') AS discarded
    FROM postrider.parked p WHERE p.subscription = s.name
) parked
CROSS JOIN LATERAL (
    SELECT count(*) AS segments FROM generate_series(0, 15) g (segment)
    WHERE EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = g.segment::smallint
                  AND (o.xid >= pg_snapshot_xmax(c.base) OR o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(c.base)))))
) held;

-- Nothing in this schema is anybody's business until it is granted: see `postrider grants`.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA postrider FROM PUBLIC;

-- +goose Down
DROP VIEW postrider.subscription_status, postrider.deliveries;
