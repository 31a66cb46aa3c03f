SET LOCAL search_path = pg_catalog, pg_temp;

-- A save that made an exception of a message between two looks, at what is parked and then at the cursor, let it count as settled: its unique key was
-- free while it was waiting, what asked for it again was enqueued beside it, and a request to cancel it was forgotten.
CREATE OR REPLACE FUNCTION postrider.unique_standing(k postrider.unique_keys) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    fresh  boolean := current_setting('transaction_isolation') LIKE 'read %'; -- else all but sequences is as it was when the transaction began
    later  timestamptz := clock_timestamp() + interval '1 minute';            -- a relay has a clock of its own
    s      postrider.shard_settings;
    part   smallint;
    o      record;
    p      record;
    is_out boolean;
    over   boolean;
BEGIN
    SELECT m.xid, m.key, m.deliver_at, m.priority INTO o FROM postrider.outbox m WHERE m.segment = k.segment AND m.id = k.id AND m.created_at = k.created_at;
    IF o.xid = pg_current_xact_id_if_assigned() THEN
        RETURN 'pending';
    END IF;
    SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = k.subscription;
    IF s.subscription IS NULL THEN
        SELECT coalesce(bool_or(c.owner IS NOT NULL), false) OR NOT fresh INTO is_out FROM postrider.cursors c WHERE c.subscription = k.subscription;
    ELSE
        SELECT q.shard INTO part FROM postrider.parked q WHERE q.subscription = k.subscription AND q.id = k.id AND q.created_at = k.created_at;
        part := coalesce(part, postrider.shard_of(o.key, k.id, s.shards));
        is_out := postrider.shard_mark(k.subscription, part) IS DISTINCT FROM k.mark AND (NOT fresh OR postrider.shard_in_use(k.subscription, part));
    END IF;
    -- Before what is parked is looked at: a message that becomes an exception is settled by its cursor with that.
    IF s.subscription IS NULL THEN
        SELECT coalesce(bool_and(pg_visible_in_snapshot(o.xid, c.base)
            OR coalesce(k.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target), false)
            OR c.done @> k.id AND k.created_at <= c.saved_at
            OR EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last) WHERE d.ids @> k.id AND k.created_at BETWEEN d.first AND d.last)), true)
        INTO over FROM postrider.cursors c WHERE c.subscription = k.subscription AND c.class IN (0, postrider.class_of(o.priority));
    ELSE
        SELECT pg_visible_in_snapshot(o.xid, c.base)
            OR k.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target)
            OR c.done @> k.id AND k.created_at <= c.done_before
        INTO over FROM postrider.shard_position(k.subscription, part) c;
    END IF;
    SELECT q.state, q.due INTO p FROM postrider.parked q WHERE q.subscription = k.subscription AND q.id = k.id AND q.created_at = k.created_at;
    IF p.state IS NOT NULL THEN
        RETURN CASE WHEN p.state = 'completed' THEN 'settled'
                    WHEN p.state IN ('retrying', 'held', 'scheduled') THEN CASE WHEN NOT is_out OR fresh AND p.state = 'scheduled' AND p.due > later THEN 'pending' ELSE 'out' END
                    WHEN p.state IN ('leased', 'failed') THEN 'out'
                    ELSE p.state END;
    ELSIF o.xid IS NULL THEN
        RETURN 'settled'; -- its segment was emptied
    END IF;
    RETURN CASE WHEN over THEN 'settled' WHEN NOT is_out OR fresh AND o.deliver_at > later THEN 'pending' ELSE 'out' END;
END $$;
COMMENT ON FUNCTION postrider.unique_standing IS 'Where the message that has a unique key stands: pending, out (or about to be), settled, dead, or given up otherwise.';
