SET LOCAL search_path = pg_catalog, pg_temp;

-- What operators are to know. A row is written by the statement that does what it tells of, and waits here for a relay to make a message of it,
-- for an INSERT into the outbox could wait for others, or fail by them, and stop what must go on.
CREATE SEQUENCE postrider.events_n AS bigint MINVALUE 0 START 0;
COMMENT ON SEQUENCE postrider.events_n IS 'Numbers events.';
CREATE SEQUENCE postrider.events_made AS bigint MINVALUE 0 START 0;
COMMENT ON SEQUENCE postrider.events_made IS 'Of the events up to this number messages have been made, but for some that are quite new.';
CREATE SEQUENCE postrider.events_lost AS bigint MINVALUE 0 START 0;
COMMENT ON SEQUENCE postrider.events_lost IS 'How many events there was no room for.';
-- Said to have been called, so that last_value counts from 0.
SELECT setval('postrider.events_n', 0), setval('postrider.events_made', 0), setval('postrider.events_lost', 0);

CREATE TABLE postrider.events (
    n           bigint PRIMARY KEY,
    kind        text NOT NULL,
    subject     text NOT NULL,
    happened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason      text,
    details     jsonb
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE postrider.events IS 'What has happened and operators are to know, until messages are made of it: those of the topics $postrider.kind.subject.';
COMMENT ON COLUMN postrider.events.n IS 'Ascends.';
COMMENT ON COLUMN postrider.events.kind IS 'What has happened.';
COMMENT ON COLUMN postrider.events.subject IS 'What it has happened to: a subscription, for most kinds.';
COMMENT ON COLUMN postrider.events.happened_at IS 'When it was written.';
COMMENT ON COLUMN postrider.events.reason IS 'Why, if that is known.';
COMMENT ON COLUMN postrider.events.details IS 'What else is known of it: of a dead letter, which message it is.';

CREATE TABLE postrider.events_told (
    kind    text NOT NULL,
    subject text NOT NULL,
    told_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lost    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, subject)
);
COMMENT ON TABLE postrider.events_told IS 'What was told a moment ago: what is like it waits, and is told together. Locked by whoever makes messages of events.';
COMMENT ON COLUMN postrider.events_told.kind IS 'Of what kind: what undoes something is of the same kind as that.';
COMMENT ON COLUMN postrider.events_told.subject IS 'Of what.';
COMMENT ON COLUMN postrider.events_told.told_at IS 'When.';
COMMENT ON COLUMN postrider.events_told.lost IS 'Of the kind lost: how many of the events that there was no room for are told of.';

CREATE FUNCTION postrider.wants_events(topics text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(bool_or(p LIKE '$%'), false) FROM unnest(topics) p);
COMMENT ON FUNCTION postrider.wants_events IS 'Whether some of these patterns are of events.';
CREATE INDEX subscriptions_to_events ON postrider.subscriptions (name) WHERE postrider.wants_events(topics);

-- Of events that no subscription names nothing is written. Beyond the bound there is no room: how many had none is counted, and told when a relay
-- makes messages again. (Numbers that were rolled back count as well, until the next relay looks.)
CREATE FUNCTION postrider.note_event(kind text, subject text, reason text, details jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off AS $$
DECLARE
    most CONSTANT bigint := 100000;
    number bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM postrider.subscriptions s WHERE postrider.wants_events(s.topics)
                   AND concat('$postrider.', kind, '.', subject) ~ postrider.topic_regex(s.topics)) THEN
        RETURN;
    END IF;
    number := nextval('postrider.events_n');
    IF number - (SELECT m.last_value FROM postrider.events_made m) > most THEN
        PERFORM nextval('postrider.events_lost');
        RETURN;
    END IF;
    INSERT INTO postrider.events (n, kind, subject, reason, details) VALUES (number, kind, subject, left(reason, 500), details);
END $$;
COMMENT ON FUNCTION postrider.note_event IS 'Writes down that something has happened, if a subscription names events of the kind.';

CREATE FUNCTION postrider.note_dead() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    PERFORM postrider.note_event('dead', NEW.subscription, NEW.reason, jsonb_strip_nulls(jsonb_build_object(
        'id', NEW.id, 'topic', NEW.topic, 'key', left(NEW.key, 200), 'attempts', NEW.attempts, 'reason', left(NEW.reason, 500))));
    RETURN NULL;
END $$;
COMMENT ON FUNCTION postrider.note_dead IS 'Notes that a message has become a dead letter.';

-- By triggers, which run for whoever does it: relays' saves, workers in SQL, callbacks. A message that tells of an event makes none itself.
CREATE TRIGGER dead_letter_made AFTER INSERT ON postrider.parked
    FOR EACH ROW WHEN (NEW.state = 'dead' AND NEW.topic NOT LIKE '$%') EXECUTE FUNCTION postrider.note_dead();
CREATE TRIGGER dead_letter AFTER UPDATE OF state ON postrider.parked
    FOR EACH ROW WHEN (NEW.state = 'dead' AND OLD.state <> 'dead' AND NEW.topic NOT LIKE '$%') EXECUTE FUNCTION postrider.note_dead();

CREATE FUNCTION postrider.event_family(kind text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE kind WHEN 'resumed' THEN 'paused' WHEN 'up' THEN 'down' ELSE kind END;
COMMENT ON FUNCTION postrider.event_family IS 'What is told together: what undoes something comes after it.';

CREATE FUNCTION postrider.event_payload(kind text, subject text, events postrider.events[]) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET timezone = 'UTC' AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('event', event_payload.kind, 'subscription', event_payload.subject, 'count', count(*),
            'first_at', min(e.happened_at), 'last_at', max(e.happened_at), 'reason', mode() WITHIN GROUP (ORDER BY e.reason)))
        || CASE event_payload.kind WHEN 'dead' THEN jsonb_build_object('messages', (
            SELECT jsonb_agg(f.details ORDER BY f.n) FROM (SELECT * FROM unnest(events) ORDER BY n LIMIT 10) f)) ELSE '{}' END
    FROM unnest(events) e
$$;
COMMENT ON FUNCTION postrider.event_payload IS 'What the message says that tells of these events, of one kind and of one subject.';

-- All of it or nothing: events go as their messages come. What is like something that was told a moment ago waits for more of it. One who makes
-- messages is enough: others do not wait for it.
CREATE FUNCTION postrider.tell_events(hold interval DEFAULT '30 seconds') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    reached bigint := (SELECT e.last_value FROM postrider.events_n e);
    lost    bigint;
    told    bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM postrider.events) AND reached - (SELECT m.last_value FROM postrider.events_made m) < 1000 THEN
        RETURN 0;
    END IF;
    BEGIN
        LOCK TABLE postrider.events_told IN EXCLUSIVE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        RETURN 0;
    END;
    lost := (SELECT l.last_value FROM postrider.events_lost l) - coalesce((SELECT t.lost FROM postrider.events_told t WHERE t.kind = 'lost'), 0);
    DELETE FROM postrider.events_told t WHERE t.told_at NOT BETWEEN clock_timestamp() - hold AND clock_timestamp() AND t.kind <> 'lost';
    WITH gone AS (
        DELETE FROM postrider.events e WHERE NOT EXISTS (SELECT FROM postrider.events_told t WHERE t.kind = postrider.event_family(e.kind) AND t.subject = e.subject)
        RETURNING e.*
    ), grouped AS (
        SELECT g.kind, g.subject, max(g.n) AS latest, array_agg(g::postrider.events) AS events FROM gone g GROUP BY g.kind, g.subject
    ), noted AS (
        INSERT INTO postrider.events_told (kind, subject) SELECT DISTINCT postrider.event_family(g.kind), g.subject FROM grouped g
    ), sent AS (
        INSERT INTO postrider.outbox (topic, key, payload, event)
        SELECT concat('$postrider.', g.kind, '.', g.subject), g.subject, postrider.event_payload(g.kind, g.subject, g.events), true
        FROM grouped g ORDER BY g.latest RETURNING id
    )
    SELECT count(*) INTO told FROM sent;
    IF lost > 0 THEN
        INSERT INTO postrider.events_told AS t (kind, subject, lost) VALUES ('lost', '', lost) ON CONFLICT ON CONSTRAINT events_told_pkey DO UPDATE SET lost = t.lost + excluded.lost;
        INSERT INTO postrider.outbox (topic, payload, event) VALUES ('$postrider.lost', jsonb_build_object('event', 'lost', 'count', lost), true);
        told := told + 1;
    END IF;
    PERFORM setval('postrider.events_made', coalesce((SELECT min(e.n) - 1 FROM postrider.events e), reached));
    RETURN told;
END $$;
COMMENT ON FUNCTION postrider.tell_events IS 'Makes messages of events, one of all that is of one kind and of one subject; what is like something that was told less than hold ago waits. Relays call it. Returns how many messages it made.';
