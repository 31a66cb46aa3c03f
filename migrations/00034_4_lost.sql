SET LOCAL search_path = pg_catalog, pg_temp;

-- As before; but a message that tells of a lost worker must not make another one.
CREATE OR REPLACE FUNCTION postrider.note_event(kind text, subject text, reason text, details jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off AS $$
DECLARE
    most CONSTANT bigint := 100000;
    number bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM postrider.subscriptions s WHERE postrider.wants_events(s.topics)
                   AND concat('$postrider.', kind, '.', subject) ~ postrider.topic_regex(s.topics)) THEN
        RETURN;
    END IF;
    -- Of workers in SQL nobody knows which messages they had: what tells of a lost worker may be what kills the next one.
    IF kind = 'worker_lost' AND EXISTS (SELECT FROM postrider.subscriptions s WHERE s.name = note_event.subject AND s.sink LIKE 'sql:%' AND postrider.wants_events(s.topics)) THEN
        RETURN;
    END IF;
    number := nextval('postrider.events_n');
    IF number - (SELECT m.last_value FROM postrider.events_made m) > most THEN
        PERFORM nextval('postrider.events_lost');
        RETURN;
    END IF;
    INSERT INTO postrider.events (n, kind, subject, reason, details) VALUES (number, kind, subject, left(reason, 500), details);
END $$;
