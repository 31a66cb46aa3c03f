SET LOCAL search_path = pg_catalog, pg_temp;

CREATE FUNCTION postrider.make_snapshot(xmax xid8, running xid8[]) RETURNS pg_snapshot
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT (coalesce((array_agg(x ORDER BY x))[1], make_snapshot.xmax)::text || ':' || make_snapshot.xmax::text || ':'
                || coalesce(string_agg(x::text, ',' ORDER BY x), ''))::pg_snapshot
        FROM (SELECT DISTINCT r AS x FROM unnest(running) r WHERE r < make_snapshot.xmax) q);
COMMENT ON FUNCTION postrider.make_snapshot IS 'The snapshot that sees every transaction below xmax but the running ones.';

CREATE FUNCTION postrider.snapshot_before_me() RETURNS pg_snapshot
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    me xid8 := pg_current_xact_id();
    s  pg_snapshot := pg_current_snapshot();
BEGIN
    RETURN postrider.make_snapshot(pg_snapshot_xmax(s), array_append(ARRAY(SELECT pg_snapshot_xip(s)), me));
END $$;
COMMENT ON FUNCTION postrider.snapshot_before_me IS 'A snapshot in which the calling transaction itself counts as running: PostgreSQL leaves the own id out.';

CREATE FUNCTION postrider.snapshot_after_me() RETURNS pg_snapshot
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    me  numeric := pg_current_xact_id()::text::numeric;
    s   pg_snapshot := pg_current_snapshot();
    top numeric := pg_snapshot_xmax(s)::text::numeric;
BEGIN
    -- Ids between the snapshot's end and the own one may be running.
    RETURN postrider.make_snapshot(greatest(top, me + 1)::text::xid8,
        ARRAY(SELECT pg_snapshot_xip(s)) || ARRAY(SELECT x::text::xid8 FROM generate_series(top, me - 1) x));
END $$;
COMMENT ON FUNCTION postrider.snapshot_after_me IS 'The snapshot that sees the calling transaction, too.';

CREATE FUNCTION postrider.snapshot_covers(a pg_snapshot, b pg_snapshot) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN NOT EXISTS (SELECT FROM pg_snapshot_xip(a) x WHERE pg_visible_in_snapshot(x, b))
       AND (pg_snapshot_xmax(a) >= pg_snapshot_xmax(b)
            -- or all that lie between were running in b
            OR (SELECT count(*) FROM pg_snapshot_xip(b) x WHERE x >= pg_snapshot_xmax(a))
               = pg_snapshot_xmax(b)::text::numeric - pg_snapshot_xmax(a)::text::numeric);
COMMENT ON FUNCTION postrider.snapshot_covers IS 'Does a see everything that b sees?';

CREATE FUNCTION postrider.require_this_cluster() RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF (SELECT system_identifier FROM postrider.source) <> (SELECT system_identifier FROM pg_control_system()) THEN
        RAISE EXCEPTION 'the schema postrider was copied into this database from another cluster'
            USING ERRCODE = '55000', HINT = 'Run postrider rebase (or SELECT postrider.rebase()) first.';
    END IF;
END $$;
COMMENT ON FUNCTION postrider.require_this_cluster IS 'An error if stored transaction ids are of another cluster: what is derived from them would be wrong until they are replaced.';
