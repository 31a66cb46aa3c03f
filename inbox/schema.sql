-- The inbox: what a receiver has accepted, so that it does nothing twice. In a schema of its own, beside the receiver's tables.
--
-- A message id ends in the time at which its message was made. It leads to the segment of the ring that every delivery of that message looks
-- in, whenever and on whichever connection it comes: a unique index is all it takes. Segments are emptied by TRUNCATE when they are older than
-- the inbox remembers, before their place is used again, by whoever happens to come by. No row is ever deleted or updated on the way.

CREATE SCHEMA postrider_inbox;
COMMENT ON SCHEMA postrider_inbox IS 'What receivers of Postrider''s messages have accepted, so that they do nothing twice.';

CREATE TABLE postrider_inbox.version (version integer NOT NULL);
COMMENT ON TABLE postrider_inbox.version IS 'The version of this schema: one row.';

CREATE TABLE postrider_inbox.eras (
    begins bigint NOT NULL PRIMARY KEY,
    length bigint NOT NULL CHECK (length > 0),
    first  bigint NOT NULL
);
COMMENT ON TABLE postrider_inbox.eras IS 'How long the segments are of messages made from a time on. A message stays in the segment that it had when the length changes.';
COMMENT ON COLUMN postrider_inbox.eras.begins IS 'From when on, in microseconds since 1970.';
COMMENT ON COLUMN postrider_inbox.eras.length IS 'How long each segment is, in microseconds.';
COMMENT ON COLUMN postrider_inbox.eras.first IS 'The number of the first segment.';

CREATE TABLE postrider_inbox.accepted (
    place   smallint NOT NULL,
    segment bigint NOT NULL,
    message text COLLATE "C" NOT NULL,
    PRIMARY KEY (place, segment, message)
) PARTITION BY LIST (place);
COMMENT ON TABLE postrider_inbox.accepted IS 'The messages that were accepted, by the time at which they were made: a ring of 16 segments.';
COMMENT ON COLUMN postrider_inbox.accepted.place IS 'In the ring: the segment''s number modulo 16.';
COMMENT ON COLUMN postrider_inbox.accepted.segment IS 'The number of the segment.';
COMMENT ON COLUMN postrider_inbox.accepted.message IS 'The message id.';

DO $$ BEGIN
    FOR place IN 0..15 LOOP
        EXECUTE format('CREATE TABLE postrider_inbox.accepted_%s PARTITION OF postrider_inbox.accepted FOR VALUES IN (%s)', place, place);
        EXECUTE format('COMMENT ON TABLE postrider_inbox.accepted_%s IS ''A place of the ring.''', place);
    END LOOP;
END $$;

CREATE TABLE postrider_inbox.late (
    message text COLLATE "C" NOT NULL PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX late_at ON postrider_inbox.late (at);
COMMENT ON TABLE postrider_inbox.late IS 'Messages that were accepted when they were older than the ring: dead letters that were redriven, replays of old times. Few.';
COMMENT ON COLUMN postrider_inbox.late.message IS 'The message id.';
COMMENT ON COLUMN postrider_inbox.late.at IS 'When it was accepted.';

CREATE FUNCTION postrider_inbox.segment_of(made bigint) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.first + (made - e.begins) / e.length FROM postrider_inbox.eras e WHERE e.begins <= made ORDER BY e.begins DESC LIMIT 1
$$;
COMMENT ON FUNCTION postrider_inbox.segment_of IS 'The number of the segment of messages made at a time, in microseconds since 1970.';

CREATE FUNCTION postrider_inbox.made_at(message_id text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF message_id ~ '^.{1,200}-[0-9]{1,19}-[0-9]{15,16}$' THEN
        RETURN substring(message_id FROM '[0-9]+$')::bigint;
    END IF;
    RAISE EXCEPTION 'message id %: it is not one of Postrider''s, such as 5eed0123-42-1767349445678900', coalesce('"' || left(message_id, 250) || '"', 'null')
        USING ERRCODE = '22023', HINT = 'Ids of others come with the time at which their message was made: accept(id, made_at).';
END $$;
COMMENT ON FUNCTION postrider_inbox.made_at(text) IS 'The time at which a message was made, in microseconds since 1970, as its id has it. Error 22023 if the id is none of Postrider''s.';

CREATE FUNCTION postrider_inbox.empty_ahead(current bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    next    smallint := (current + 2) % 16;
    oldest  timestamptz;
BEGIN
    -- Nobody who accepts a message comes here before the segment begins that is next but one: the lock is in nobody's way.
    IF EXISTS (SELECT FROM postrider_inbox.accepted a WHERE a.place = next) THEN
        BEGIN
            EXECUTE format('LOCK TABLE postrider_inbox.accepted_%s IN ACCESS EXCLUSIVE MODE NOWAIT', next);
            EXECUTE format('TRUNCATE postrider_inbox.accepted_%s', next);
        EXCEPTION WHEN lock_not_available THEN
            NULL; -- somebody else does it, or reads it: there is time
        END;
    END IF;
    DELETE FROM postrider_inbox.late l WHERE l.message IN (
        SELECT o.message FROM postrider_inbox.late o WHERE o.at < now() - postrider_inbox.keeps() ORDER BY o.at LIMIT 1000 FOR UPDATE SKIP LOCKED);
END $$;
COMMENT ON FUNCTION postrider_inbox.empty_ahead IS 'Empties the place in the ring that is used next but one, and forgets late messages that are old enough.';
