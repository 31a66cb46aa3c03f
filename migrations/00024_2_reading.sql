SET LOCAL search_path = pg_catalog, pg_temp;

-- A worker's transaction keeps the segments that it has read until its end, and a read through the parent table would keep all sixteen. So
-- each is read by itself, by statements of its own that a session plans once: what follows is written once and made for all of them.
DO $$
DECLARE
    -- Which rows of a segment a pass may still want, of whatever shard.
    window_function CONSTANT text := $f$
CREATE FUNCTION postrider.shard_window(leaf integer, base pg_snapshot, target pg_snapshot, most integer, OUT n bigint, OUT first bigint, OUT last bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $b$
#variable_conflict use_variable
DECLARE
    top   xid8 := pg_snapshot_xmax(base);
    until xid8 := pg_snapshot_xmax(target);
    ended xid8[] := ARRAY(SELECT x FROM pg_snapshot_xip(base) x WHERE pg_visible_in_snapshot(x, target));
BEGIN
    CASE leaf %s END CASE;
END $b$ $f$;
    window_leaf CONSTANT text := $l$
    WHEN %1$s THEN
        SELECT count(*), min(w.id), max(w.id) INTO n, first, last FROM (
            SELECT o.id FROM postrider.outbox_%1$s o WHERE o.xid >= top AND o.xid < until AND pg_visible_in_snapshot(o.xid, target)
            UNION ALL
            SELECT o.id FROM postrider.outbox_%1$s o WHERE o.xid = ANY (ended) AND o.xid < top LIMIT most) w;
        IF n = most THEN
            first := (SELECT min(o.id) FROM postrider.outbox_%1$s o);
            last := (SELECT max(o.id) FROM postrider.outbox_%1$s o);
        END IF;$l$;

    -- The next rows of a pass. Two that have the same id come together.
    page_function CONSTANT text := $f$
CREATE FUNCTION postrider.shard_page(leaf bigint, by_xid bigint, c postrider.shard_positions, s postrider.shard_settings, until bigint, room integer)
    RETURNS TABLE (id bigint, created_at timestamptz, deliver_at timestamptz, xid xid8, topic text, key text, payload jsonb, body bytea, headers jsonb, priority smallint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $b$
#variable_conflict use_column
DECLARE
    base     pg_snapshot := c.base;
    earlier  jsonb;
BEGIN
    -- Few variables and few steps: a session prepares each of them anew in each transaction.
    IF s.earlier_until IS NOT NULL AND pg_snapshot_xmin(base) < s.earlier_until THEN
        earlier := s.earlier; -- it applies to nothing that is left once base is past it
    END IF;
    %s
END $b$ $f$;
    wanted CONSTANT text := $w$
          AND CASE WHEN earlier IS NULL THEN s.regex IS NULL OR o.topic ~ s.regex ELSE o.topic ~ postrider.topic_regex(postrider.topics_at(s.topics, earlier, o.xid)) END
          AND postrider.shard_of(o.key, o.id, s.shards) = c.shard
          AND (c.done IS NULL OR NOT (c.done @> o.id AND o.created_at <= c.done_before))$w$;
    cols CONSTANT text := 'o.id, o.created_at, o.deliver_at, o.xid, o.topic::text, o.key, o.payload, o.body, o.headers::jsonb, least(greatest(o.priority, 1::smallint), 4::smallint)';
    page_leaf CONSTANT text := $l$
        IF by_xid = 0 THEN
            RETURN QUERY SELECT %2$s FROM postrider.outbox_%1$s o
            WHERE o.id > c.after_id AND o.id <= until AND NOT pg_visible_in_snapshot(o.xid, base) AND pg_visible_in_snapshot(o.xid, c.target)%3$s
            ORDER BY o.id FETCH FIRST (room) ROWS WITH TIES;
        ELSE
            RETURN QUERY SELECT * FROM (
                SELECT %2$s FROM postrider.outbox_%1$s o
                WHERE o.xid >= pg_snapshot_xmax(base) AND o.xid < pg_snapshot_xmax(c.target) AND o.id > c.after_id AND o.id <= until
                  AND pg_visible_in_snapshot(o.xid, c.target)%3$s
                UNION ALL
                SELECT %2$s FROM postrider.outbox_%1$s o
                WHERE o.xid = ANY (ARRAY(SELECT x FROM pg_snapshot_xip(base) x WHERE pg_visible_in_snapshot(x, c.target)))
                  AND o.xid < pg_snapshot_xmax(base) AND o.id > c.after_id AND o.id <= until%3$s) w
            ORDER BY w.id FETCH FIRST (room) ROWS WITH TIES;
        END IF;$l$;

    -- What is new, for which shards, without a lock.
    peek_function CONSTANT text := $f$
CREATE FUNCTION postrider.shard_peek(leaf integer, s postrider.shard_settings, shards smallint[], bases pg_snapshot[], top xid8, running xid8[], most bigint,
        OUT looked bigint, OUT news smallint[])
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $b$
#variable_conflict use_variable
DECLARE
    n        integer := s.shards;
    regex    text := s.regex;
    topics   text[] := s.topics;
    earlier  jsonb := CASE WHEN (SELECT bool_or(pg_snapshot_xmin(b) < s.earlier_until) FROM unnest(bases) b) THEN s.earlier END;
BEGIN
    CASE leaf %s END CASE;
END $b$ $f$;
    peek_leaf CONSTANT text := $l$
    WHEN %1$s THEN
        SELECT count(*), array_agg(DISTINCT w.shard) FILTER (WHERE NOT pg_visible_in_snapshot(w.xid, bases[array_position(shards, w.shard)])) INTO looked, news
        FROM (
            SELECT o.xid, CASE WHEN CASE WHEN earlier IS NULL THEN regex IS NULL OR o.topic ~ regex
                                         ELSE o.topic ~ postrider.topic_regex(postrider.topics_at(topics, earlier, o.xid)) END
                               THEN postrider.shard_of(o.key, o.id, n) END AS shard
            FROM (SELECT * FROM (
                SELECT p.id, p.key, p.topic, p.xid FROM postrider.outbox_%1$s p WHERE p.xid >= top
                UNION ALL
                SELECT p.id, p.key, p.topic, p.xid FROM postrider.outbox_%1$s p WHERE p.xid = ANY (running) AND p.xid < top) u
                LIMIT most) o) w;$l$;

    -- Messages by their ids: for who has taken them and says what is wrong.
    row_function CONSTANT text := $f$
CREATE FUNCTION postrider.shard_messages(leaf integer, wanted bigint[], of_key text)
    RETURNS TABLE (id bigint, created_at timestamptz, xid xid8, topic text, key text, payload jsonb, body bytea, headers jsonb, priority smallint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = off SET jit = off AS $b$
#variable_conflict use_column
BEGIN
    CASE leaf %s END CASE;
END $b$ $f$;
    row_leaf CONSTANT text := $l$
    WHEN %1$s THEN
        RETURN QUERY SELECT o.id, o.created_at, o.xid, o.topic::text, o.key, o.payload, o.body, o.headers::jsonb, o.priority FROM postrider.outbox_%1$s o
        WHERE o.id = ANY (wanted) AND (of_key IS NULL OR o.key = of_key);$l$;
    leaves CONSTANT int[] := ARRAY(SELECT generate_series(0, 15));
BEGIN
    EXECUTE format(window_function, (SELECT string_agg(format(window_leaf, i), '') FROM unnest(leaves) i));
    EXECUTE format(page_function, (SELECT string_agg(format('IF leaf < %s THEN ', 4 * g + 4) ||
        (SELECT string_agg(CASE WHEN i % 4 < 3 THEN format('IF leaf = %s THEN', i) ELSE '' END || format(page_leaf, i, cols, wanted), ' ELSE' ORDER BY i)
         FROM generate_series(4 * g, 4 * g + 3) i), ' END IF; ELS' ORDER BY g) || ' END IF; END IF;' FROM generate_series(0, 3) g));
    EXECUTE format(row_function, (SELECT string_agg(format(row_leaf, i), '') FROM unnest(leaves) i));
    EXECUTE format(peek_function, (SELECT string_agg(format(peek_leaf, i), '') FROM unnest(leaves) i));
END $$;
COMMENT ON FUNCTION postrider.shard_window IS 'How many messages of a segment are new between two snapshots, and from which id to which; counted up to most, beyond which the ids are those of the segment.';
COMMENT ON FUNCTION postrider.shard_page IS 'The next messages of a pass in one segment, up to an id.';
COMMENT ON FUNCTION postrider.shard_messages IS 'Messages of a segment by their ids, of a key if one is given.';
COMMENT ON FUNCTION postrider.shard_peek IS 'How many messages of a segment are new for some shard, and which shards have wanted ones among them.';

-- A segment that nobody needs any more is closed for workers before it is emptied, for each keeps what it has read until its end. Of one that
-- is closed they see exactly what there is, and let go of it unless it has something for them: it may have been closed by one who is gone and
-- be filled anew by now, and a transaction may come to its end late. What is not looked at would be passed by what follows it in its key.
CREATE FUNCTION postrider.closing_segment() RETURNS smallint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (SELECT s.closing FROM postrider.source s);
COMMENT ON FUNCTION postrider.closing_segment IS 'The segment that workers keep no lock on if they need not.';

CREATE FUNCTION postrider.window_at_a_glance(leaf integer, base pg_snapshot, target pg_snapshot, most integer, OUT n bigint, OUT first bigint, OUT last bigint)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    SELECT w.n, w.first, w.last INTO n, first, last FROM postrider.shard_window(leaf, base, target, most) w;
    RAISE EXCEPTION USING ERRCODE = 'PR001'; -- what was locked since BEGIN is free again; the variables stay
EXCEPTION WHEN SQLSTATE 'PR001' THEN
    NULL;
END $$;
COMMENT ON FUNCTION postrider.window_at_a_glance IS 'postrider.shard_window, without a lock that stays.';

CREATE FUNCTION postrider.peek_at_a_glance(leaf integer, s postrider.shard_settings, shards smallint[], bases pg_snapshot[], top xid8, running xid8[], most bigint,
        OUT looked bigint, OUT news smallint[])
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    SELECT w.looked, w.news INTO looked, news FROM postrider.shard_peek(leaf, s, shards, bases, top, running, most) w;
    RAISE EXCEPTION USING ERRCODE = 'PR001';
EXCEPTION WHEN SQLSTATE 'PR001' THEN
    NULL;
END $$;
COMMENT ON FUNCTION postrider.peek_at_a_glance IS 'postrider.shard_peek, without a lock that stays.';

CREATE FUNCTION postrider.close_segment(segment smallint, wanted boolean) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF wanted THEN
        UPDATE postrider.source s SET closing = segment WHERE s.closing IS DISTINCT FROM segment;
    ELSE
        UPDATE postrider.source s SET closing = NULL WHERE s.closing = segment;
    END IF;
    RETURN wanted;
END $$;
COMMENT ON FUNCTION postrider.close_segment IS 'Closes a segment for workers, in place of the one that was closed before, or opens it again. Returns whether it is closed.';

-- A segment without a block has no rows, which is seen without a lock on it.
CREATE FUNCTION postrider.filled_segments() RETURNS integer[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN ARRAY(SELECT g FROM generate_series(0, 15) g WHERE pg_relation_size(('postrider.outbox_' || g)::regclass) > 0);
END $$;
COMMENT ON FUNCTION postrider.filled_segments IS 'The segments that hold something.';

CREATE FUNCTION postrider.begin_pass(c postrider.shard_positions) RETURNS postrider.shard_positions
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    exact CONSTANT integer := 20000;
    closing smallint := postrider.closing_segment();
    leaf  integer;
    w     record;
BEGIN
    PERFORM postrider.require_this_cluster();
    c.leaves := '{}';
    c.target := postrider.snapshot_before_me(); -- in a statement after the lock, and without the caller's own messages
    FOREACH leaf IN ARRAY postrider.filled_segments() LOOP
        IF leaf = closing THEN
            w := postrider.window_at_a_glance(leaf, c.base, c.target, exact);
        ELSE
            w := postrider.shard_window(leaf, c.base, c.target, exact);
        END IF;
        IF w.n > 0 THEN
            c.leaves := c.leaves || ARRAY[leaf, w.first, w.last, CASE WHEN w.n <= 2000 AND w.last - w.first >= 4 * w.n THEN 1 ELSE 0 END];
            c.after_id := least(c.after_id, w.first - 1);
        END IF;
    END LOOP;
    IF cardinality(c.leaves) > 4 THEN
        c.leaves := ARRAY(SELECT c.leaves[i + j] FROM generate_series(1, cardinality(c.leaves), 4) i, generate_series(0, 3) j ORDER BY c.leaves[i + 1], i, j);
    END IF;
    RETURN CASE WHEN c.leaves = '{}' THEN postrider.end_pass(c) ELSE c END;
END $$;
COMMENT ON FUNCTION postrider.begin_pass IS 'Where a pass begins: its target, and the segments that have something for it; without any it is over.';

CREATE FUNCTION postrider.end_pass(c postrider.shard_positions) RETURNS postrider.shard_positions
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    c.base := c.target;
    c.target := NULL; c.after_id := NULL; c.leaves := NULL;
    c.done := NULL; c.done_before := NULL; c.again := false;
    RETURN c;
END $$;
COMMENT ON FUNCTION postrider.end_pass IS 'A pass is over: its target is the base.';
