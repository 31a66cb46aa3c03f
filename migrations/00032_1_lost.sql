SET LOCAL search_path = pg_catalog, pg_temp;

-- What relays alone know: that workers were lost with what they had. They say so here, many together.
CREATE FUNCTION postrider.note_lost_workers(subscriptions text[], workers text[], reasons text[], times integer[], jobs integer[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
BEGIN
    PERFORM postrider.note_event('worker_lost', l.subscription, l.reason,
        jsonb_strip_nulls(jsonb_build_object('worker', left(l.worker, 200), 'times', l.times, 'jobs', l.jobs, 'reason', l.reason)))
    FROM unnest(subscriptions, workers, reasons, times, jobs) AS l (subscription, worker, reason, times, jobs);
END $$;
COMMENT ON FUNCTION postrider.note_lost_workers IS 'Relays call it: of each subscription and worker how often that was lost, and with how many jobs. No name: several workers.';

CREATE OR REPLACE FUNCTION postrider.event_payload(kind text, subject text, events postrider.events[]) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET timezone = 'UTC' AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('event', event_payload.kind,
            CASE event_payload.kind WHEN 'schedule_missed' THEN 'schedule' ELSE 'subscription' END, nullif(event_payload.subject, '_locks'),
            'count', CASE WHEN event_payload.kind IN ('down', 'up') -- of the part that has most
                THEN (SELECT max(p.n) FROM (SELECT count(*) AS n FROM unnest(events) d GROUP BY d.details) p)
                WHEN event_payload.kind = 'worker_lost' THEN sum((e.details ->> 'times')::bigint) ELSE count(*) END,
            'first_at', min(e.happened_at), 'last_at', max(e.happened_at), 'reason', mode() WITHIN GROUP (ORDER BY e.reason),
            'jobs', CASE event_payload.kind WHEN 'worker_lost' THEN sum((e.details ->> 'jobs')::bigint) END))
        || CASE WHEN event_payload.kind IN ('dead', 'worker_lost', 'retention_held') THEN jsonb_build_object(
            CASE event_payload.kind WHEN 'dead' THEN 'messages' WHEN 'worker_lost' THEN 'workers' ELSE 'holders' END,
            (SELECT jsonb_agg(f.details ORDER BY f.n) FROM (SELECT * FROM unnest(events) ORDER BY n LIMIT 10) f)) ELSE '{}' END
    FROM unnest(events) e
$$;
