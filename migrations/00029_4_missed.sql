SET LOCAL search_path = pg_catalog, pg_temp;

-- As before, and it notes what was missed and is not made up for. A relay of a build before this one leaves that out.
DROP FUNCTION postrider.fire_schedules(text[], bigint[], timestamptz[], timestamptz[], text[], integer[], timestamptz[]);
CREATE FUNCTION postrider.fire_schedules(names text[], versions bigint[], was timestamptz[], next timestamptz[], troubles text[],
                                         run_of integer[], run_at timestamptz[], lost boolean[] DEFAULT NULL, OUT moved bigint, OUT fired bigint)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    WITH decided AS MATERIALIZED (
        SELECT a.*, r.last_run
        FROM unnest(names, versions, was, next, troubles, lost) WITH ORDINALITY a (name, version, was, next, trouble, lost, n)
        LEFT JOIN (SELECT r.n, max(r.at) AS last_run FROM unnest(run_of, run_at) r (n, at) GROUP BY r.n) r USING (n)
    ), free AS MATERIALIZED (
        SELECT s.name FROM postrider.schedules s JOIN decided d ON d.name = s.name
        WHERE s.version = d.version AND s.next_run IS NOT DISTINCT FROM d.was AND NOT s.paused
        FOR UPDATE OF s SKIP LOCKED
    ), gone AS (
        UPDATE postrider.schedules s
        SET next_run = d.next, last_run = coalesce(d.last_run, s.last_run), trouble = d.trouble,
            due = CASE WHEN d.trouble IS NULL THEN d.next ELSE clock_timestamp() + interval '1 minute' END
        FROM decided d
        WHERE s.name = d.name AND d.name IN (SELECT f.name FROM free f)
          AND s.version = d.version AND s.next_run IS NOT DISTINCT FROM d.was AND NOT s.paused
        RETURNING s.name, s.topic, s.key, s.payload, s.headers, s.priority, s.missed, d.lost, d.n
    ), sent AS (
        INSERT INTO postrider.outbox (topic, key, payload, headers, priority)
        SELECT g.topic, g.key, g.payload, postrider.run_headers(g.headers, g.name, r.at), g.priority
        FROM gone g JOIN unnest(run_of, run_at) r (n, at) ON r.n = g.n ORDER BY r.at, g.name
        RETURNING id
    ), noted AS (
        SELECT count(n.told) FROM (
            SELECT postrider.note_event('schedule_missed', g.name, 'missed: ' || g.missed, NULL) AS told FROM gone g WHERE g.lost) n
    )
    SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM sent) WHERE (SELECT n.count FROM noted n) IS NOT NULL -- it is read, so that it is done
$$;
COMMENT ON FUNCTION postrider.fire_schedules IS 'Relays call it with what they have decided: of each schedule its version and next run as they were, the run after that, the trouble if there is any, the runs to fire, by its place in the list, and whether runs are lost. Returns how many schedules moved on, and how many messages that made.';

CREATE OR REPLACE FUNCTION postrider.event_payload(kind text, subject text, events postrider.events[]) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET timezone = 'UTC' AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('event', event_payload.kind, CASE event_payload.kind WHEN 'schedule_missed' THEN 'schedule' ELSE 'subscription' END, event_payload.subject,
            'count', CASE WHEN event_payload.kind IN ('down', 'up') -- of the part that has most
                THEN (SELECT max(p.n) FROM (SELECT count(*) AS n FROM unnest(events) d GROUP BY d.details) p) ELSE count(*) END,
            'first_at', min(e.happened_at), 'last_at', max(e.happened_at), 'reason', mode() WITHIN GROUP (ORDER BY e.reason)))
        || CASE event_payload.kind WHEN 'dead' THEN jsonb_build_object('messages', (
            SELECT jsonb_agg(f.details ORDER BY f.n) FROM (SELECT * FROM unnest(events) ORDER BY n LIMIT 10) f)) ELSE '{}' END
    FROM unnest(events) e
$$;
