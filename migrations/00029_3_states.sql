SET LOCAL search_path = pg_catalog, pg_temp;

-- What a relay has in memory alone, and what outlives it: one that starts knows nothing of a destination until something gets through.
ALTER TABLE postrider.cursors ADD COLUMN down boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN postrider.cursors.down IS 'The destination was down when that was last known.';

CREATE FUNCTION postrider.note_state() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF NEW.state = 'paused' THEN
        PERFORM postrider.note_event('paused', NEW.name, NEW.paused_reason, NULL);
    ELSE
        PERFORM postrider.note_event('resumed', NEW.name, NULL, NULL);
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION postrider.note_state IS 'Notes that a subscription was paused or resumed.';
CREATE TRIGGER state_noted AFTER UPDATE ON postrider.subscriptions
    FOR EACH ROW WHEN (NEW.state <> OLD.state) EXECUTE FUNCTION postrider.note_state();

-- Each of its parts has a cursor, and tells the same.
CREATE FUNCTION postrider.note_down() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    PERFORM postrider.note_event(CASE WHEN NEW.down THEN 'down' ELSE 'up' END, NEW.subscription,
        CASE WHEN NEW.down THEN regexp_replace(NEW.trouble, '^destination is down: ', '') END, jsonb_build_object('shard', NEW.shard, 'class', NEW.class));
    RETURN NULL;
END $$;
COMMENT ON FUNCTION postrider.note_down IS 'Notes that a destination went down or is back.';
CREATE TRIGGER down_noted AFTER UPDATE OF down ON postrider.cursors
    FOR EACH ROW WHEN (NEW.down <> OLD.down) EXECUTE FUNCTION postrider.note_down();

CREATE OR REPLACE FUNCTION postrider.event_payload(kind text, subject text, events postrider.events[]) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET timezone = 'UTC' AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('event', event_payload.kind, 'subscription', event_payload.subject,
            'count', CASE WHEN event_payload.kind IN ('down', 'up') -- of the part that has most
                THEN (SELECT max(p.n) FROM (SELECT count(*) AS n FROM unnest(events) d GROUP BY d.details) p) ELSE count(*) END,
            'first_at', min(e.happened_at), 'last_at', max(e.happened_at), 'reason', mode() WITHIN GROUP (ORDER BY e.reason)))
        || CASE event_payload.kind WHEN 'dead' THEN jsonb_build_object('messages', (
            SELECT jsonb_agg(f.details ORDER BY f.n) FROM (SELECT * FROM unnest(events) ORDER BY n LIMIT 10) f)) ELSE '{}' END
    FROM unnest(events) e
$$;
