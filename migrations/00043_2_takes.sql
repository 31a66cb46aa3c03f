SET LOCAL search_path = pg_catalog, pg_temp;

-- What each take asks for at least once, at less cost: a function in SQL with a subquery is planned anew for each transaction that calls it, one in
-- PL/pgSQL once for a session, and so are names of tables that are built from text.
CREATE OR REPLACE FUNCTION postrider.closing_segment() RETURNS smallint
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    leaf smallint;
BEGIN
    SELECT s.closing INTO leaf FROM postrider.source s;
    RETURN leaf;
END $$;

CREATE OR REPLACE FUNCTION postrider.snapshot_before_me() RETURNS pg_snapshot
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    me      xid8 := pg_current_xact_id();
    s       pg_snapshot := pg_current_snapshot();
    top     xid8 := pg_snapshot_xmax(s);
    running xid8[] := ARRAY(SELECT q.x FROM (SELECT pg_snapshot_xip(s) AS x UNION ALL SELECT me) q WHERE q.x < top ORDER BY q.x);
BEGIN
    RETURN (coalesce(running[1], top)::text || ':' || top::text || ':' || array_to_string(running, ','))::pg_snapshot;
END $$;

DO $$
BEGIN
    EXECUTE format($f$CREATE OR REPLACE FUNCTION postrider.filled_segments() RETURNS integer[]
        LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $b$
    BEGIN
        RETURN ARRAY(SELECT u.n::integer - 1 FROM unnest(%L::regclass[]) WITH ORDINALITY u (leaf, n) WHERE pg_relation_size(u.leaf) > 0 ORDER BY u.n);
    END $b$ $f$, ARRAY(SELECT format('postrider.outbox_%s', g) FROM generate_series(0, 15) g));
END $$;
