SET LOCAL search_path = pg_catalog, pg_temp;

-- What is derived from cursors for some subscriptions is derived from shards for the others: each view has both, one after the other.
CREATE VIEW postrider.shard_places AS
SELECT p.* FROM postrider.shards h CROSS JOIN LATERAL (
    SELECT k.* FROM postrider.shard_positions k WHERE k.subscription = h.subscription AND k.shard = h.shard ORDER BY k.seq DESC LIMIT 1) p
WHERE h.shard > 0;
COMMENT ON VIEW postrider.shard_places IS 'Where each shard is: a row per shard of postrider.shard_positions.';

DO $$
DECLARE
    a pg_attribute;
BEGIN
    FOR a IN SELECT t.* FROM pg_attribute t WHERE t.attrelid = 'postrider.shard_positions'::regclass AND t.attnum > 0 LOOP
        EXECUTE format('COMMENT ON COLUMN postrider.shard_places.%I IS %L', a.attname, col_description(a.attrelid, a.attnum));
    END LOOP;
END $$;

CREATE FUNCTION postrider.shard_bases() RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT DISTINCT (CASE WHEN p.target IS NULL AND f.version = t.version AND pg_snapshot_xmax(p.base) < pg_snapshot_xmax(f.base) THEN f.base
        ELSE p.base END)::text
    FROM postrider.shard_settings t
    JOIN postrider.shard_places p ON p.subscription = t.subscription
    LEFT JOIN LATERAL (SELECT k.* FROM postrider.shard_positions k WHERE k.subscription = t.subscription AND k.shard = 0 ORDER BY k.seq DESC LIMIT 1) f ON true
$$;
COMMENT ON FUNCTION postrider.shard_bases IS 'What the shards of all subscriptions have settled: snapshots.';

CREATE FUNCTION postrider.shard_backlogs()
    RETURNS TABLE (name text, messages bigint, oldest timestamptz, segments bigint, more boolean, saved_at timestamptz)
    LANGUAGE plpgsql STABLE ROWS 1000 SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    s       postrider.shard_settings;
    floor   postrider.shard_positions;
    top     xid8;
    running xid8[];
    most    bigint := greatest(200000 / greatest((SELECT count(*) FROM postrider.shard_settings), 1), 200);
    newest  xid8[] := ARRAY(SELECT (SELECT o.xid FROM postrider.outbox o WHERE o.segment = g::smallint ORDER BY o.xid DESC LIMIT 1) FROM generate_series(0, 15) g);
BEGIN
    FOR s IN SELECT * FROM postrider.shard_settings LOOP
        floor := postrider.shard_position(s.subscription, 0);
        IF floor.version <> s.version THEN floor := NULL; END IF;
        SELECT array_agg(pg_snapshot_xmax(b.base) ORDER BY pg_snapshot_xmax(b.base)), max(k.saved_at) INTO running, saved_at
        FROM postrider.shard_places k CROSS JOIN LATERAL (SELECT CASE WHEN k.target IS NULL AND pg_snapshot_xmax(k.base) < pg_snapshot_xmax(floor.base) THEN floor.base ELSE k.base END AS base) b
        WHERE k.subscription = s.subscription;
        top := running[1];
        running := ARRAY(SELECT DISTINCT x FROM postrider.shard_places k, pg_snapshot_xip(k.base) x WHERE k.subscription = s.subscription);
        SELECT count(*) FILTER (WHERE w.wanted), min(w.created_at) FILTER (WHERE w.wanted AND isfinite(w.created_at)), count(*) > most
        INTO messages, oldest, more
        FROM (
            SELECT o.created_at, CASE WHEN s.earlier IS NULL THEN s.regex IS NULL OR o.topic ~ s.regex
                                      ELSE o.topic ~ postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, o.xid)) END
                AND NOT pg_visible_in_snapshot(o.xid, k.base)
                AND NOT coalesce(o.id <= k.after_id AND pg_visible_in_snapshot(o.xid, k.target), false)
                AND NOT coalesce(k.done @> o.id AND o.created_at <= k.done_before, false)
                AND NOT EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = s.subscription AND p.id = o.id AND p.created_at = o.created_at) AS wanted
            FROM (
                (SELECT m.* FROM postrider.outbox m WHERE m.xid >= top ORDER BY m.xid LIMIT most + 1)
                UNION ALL
                (SELECT m.* FROM postrider.outbox m WHERE m.xid = ANY (running) AND m.xid < top LIMIT most + 1)
            ) o JOIN postrider.shard_places k ON k.subscription = s.subscription AND k.shard = postrider.shard_of(o.key, o.id, s.shards)
        ) w;
        name := s.subscription;
        segments := (SELECT count(*) FROM generate_series(1, 16) g WHERE newest[g] >= top
            OR running <> '{}' AND EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = (g - 1)::smallint AND o.xid = ANY (running)));
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.shard_backlogs IS 'Where all subscriptions stand that workers take from in SQL: what they have not settled, and how many segments of the ring cannot be emptied because of it.';

DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW postrider.deliveries AS ' || rtrim(pg_get_viewdef('postrider.deliveries'::regclass), ';') || $v$
    UNION ALL
    SELECT s.name, o.id, o.topic, o.key, o.created_at,
           CASE WHEN p.state = 'completed' THEN 'delivered'
                WHEN p.id IS NOT NULL THEN p.state
                WHEN pg_visible_in_snapshot(o.xid, c.base)
                  OR o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target)
                  OR c.done @> o.id AND o.created_at <= c.done_before THEN 'delivered'
                ELSE 'pending' END,
           p.attempts, p.due, p.reason
    FROM postrider.subscriptions s
    JOIN postrider.shard_settings t ON t.subscription = s.name
    JOIN postrider.outbox o
      ON CASE WHEN t.earlier IS NULL THEN t.regex IS NULL OR o.topic ~ t.regex
              ELSE o.topic ~ postrider.topic_regex(postrider.topics_at(t.topics, t.earlier, o.xid)) END
     AND NOT pg_visible_in_snapshot(o.xid, s.started)
    JOIN postrider.shard_places c ON c.subscription = s.name AND c.shard = postrider.shard_of(o.key, o.id, t.shards)
    LEFT JOIN postrider.parked p ON p.subscription = s.name AND p.id = o.id AND p.created_at = o.created_at$v$;
    EXECUTE 'CREATE OR REPLACE VIEW postrider.subscription_status AS ' || rtrim(pg_get_viewdef('postrider.subscription_status'::regclass), ';') || $v$
    UNION ALL
    SELECT s.name, s.state, s.paused_reason, NULL, s.topics, NULL, lag.messages, lag.more,
           coalesce(extract(epoch FROM clock_timestamp() - lag.oldest), 0)::double precision,
           coalesce(parked.retrying, 0), coalesce(parked.held, 0), coalesce(parked.scheduled, 0), 0, coalesce(parked.dead, 0), coalesce(parked.discarded, 0),
           lag.segments, lag.saved_at
    FROM postrider.shard_backlogs() lag
    JOIN postrider.subscriptions s ON s.name = lag.name
    LEFT JOIN (
        SELECT p.subscription, count(*) FILTER (WHERE p.state = 'retrying') AS retrying, count(*) FILTER (WHERE p.state = 'held') AS held,
               count(*) FILTER (WHERE p.state = 'scheduled') AS scheduled, count(*) FILTER (WHERE p.state = 'dead') AS dead,
               count(*) FILTER (WHERE p.state = 'discarded') AS discarded
        FROM postrider.parked p GROUP BY p.subscription
    ) parked ON parked.subscription = s.name$v$;
END $$;

-- Nothing is new for an idle subscription, and yet its shards' bases stay behind: polls would look at more and more of other subscriptions'
-- messages, and segments could not be emptied. A relay raises the floors of all of them at once. Only those are looked at that are not far
-- behind, so that what waits for workers that do not come is not looked through again and again.
CREATE FUNCTION postrider.raise_floors() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    here   pg_snapshot := pg_current_snapshot(); -- before anything is written
    now_at numeric := pg_snapshot_xmax(here)::text::numeric;
    idle   record;
    n      bigint := 0;
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'floors are raised in a transaction that has written nothing' USING ERRCODE = '25001';
    END IF;
    IF EXISTS (SELECT FROM postrider.source q WHERE q.system_identifier <> (SELECT system_identifier FROM pg_control_system())) THEN
        RETURN 0;
    END IF;
    FOR idle IN
        WITH place AS MATERIALIZED (
            SELECT t.subscription, t.version, p.shard, p.target IS NULL AS rests, p.saved_at,
                   CASE WHEN f.version = t.version AND pg_snapshot_xmax(p.base) < pg_snapshot_xmax(f.base) THEN f.base ELSE p.base END AS base
            FROM postrider.shard_settings t
            JOIN postrider.shard_places p ON p.subscription = t.subscription
            LEFT JOIN LATERAL (SELECT k.version, k.base FROM postrider.shard_positions k WHERE k.subscription = t.subscription AND k.shard = 0 ORDER BY k.seq DESC LIMIT 1) f ON true
        ), sub AS MATERIALIZED (
            SELECT p.subscription, min(pg_snapshot_xmax(p.base)::text::numeric) AS behind, array_agg(p.base ORDER BY p.shard) AS bases, max(p.saved_at) AS saved_at
            FROM place p JOIN postrider.shard_settings t USING (subscription)
            GROUP BY p.subscription
            HAVING bool_and(p.rests AND (t.earlier_until IS NULL OR t.earlier_until <= pg_snapshot_xmin(p.base)))
        ), near AS MATERIALIZED (
            SELECT s.* FROM sub s WHERE now_at - s.behind < 500000
               AND (now_at - s.behind >= 1000 OR now_at > s.behind AND s.saved_at < clock_timestamp() - interval '10 minutes')
        ), topic AS MATERIALIZED (
            SELECT DISTINCT o.topic::text AS topic FROM postrider.outbox o WHERE o.xid >= (SELECT min(behind)::text::xid8 FROM near)
            UNION
            SELECT DISTINCT o.topic::text FROM postrider.outbox o
            WHERE o.xid = ANY (ARRAY(SELECT DISTINCT x FROM near n, unnest(n.bases) b, pg_snapshot_xip(b) x))
        )
        SELECT t AS settings FROM near JOIN postrider.shard_settings t USING (subscription)
        WHERE NOT EXISTS (SELECT FROM topic WHERE t.regex IS NULL OR topic.topic ~ t.regex)
           -- Some of what matches may be settled already.
           OR NOT EXISTS (
               SELECT FROM postrider.outbox o
               WHERE (o.xid >= near.behind::text::xid8 OR o.xid = ANY (ARRAY(SELECT DISTINCT x FROM unnest(near.bases) b, pg_snapshot_xip(b) x)))
                 AND (t.regex IS NULL OR o.topic ~ t.regex)
                 AND NOT pg_visible_in_snapshot(o.xid, near.bases[postrider.shard_of(o.key, o.id, t.shards)]))
    LOOP
        PERFORM postrider.raise_floor(idle.settings, here);
        n := n + 1;
    END LOOP;
    RETURN n;
END $$;
COMMENT ON FUNCTION postrider.raise_floors IS 'Notes for all subscriptions that workers take from in SQL, and for which nothing is new, that it is so. Relays call it. Returns for how many.';
