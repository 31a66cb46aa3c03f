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

CREATE FUNCTION postrider_inbox.accept_at(message_ids text[], made_at bigint[]) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    current bigint := postrider_inbox.segment_of((extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    ahead   text;
BEGIN
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') AND clock_timestamp() > now() + interval '4 minutes' THEN
        RAISE EXCEPTION 'the transaction is too old to accept messages: the length of segments may have changed since it began' USING ERRCODE = '40001';
    END IF;
    SELECT g.message INTO ahead FROM unnest(message_ids, made_at) g (message, made) WHERE postrider_inbox.segment_of(g.made) > current + 1 LIMIT 1;
    IF ahead IS NOT NULL THEN
        RAISE EXCEPTION 'message "%" is of the future: the clock of this server or of its sender''s is wrong', ahead USING ERRCODE = '22008';
    END IF;
    -- In order, so that two who accept the same messages wait for each other in one direction alone.
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT DISTINCT g.message, postrider_inbox.segment_of(g.made) AS segment FROM unnest(message_ids, made_at) g (message, made)
    ), fresh AS (
        INSERT INTO postrider_inbox.accepted (place, segment, message)
        SELECT g.segment % 16, g.segment, g.message FROM given g WHERE g.segment >= current - 13 ORDER BY g.message
        ON CONFLICT DO NOTHING RETURNING accepted.message
    ), older AS (
        INSERT INTO postrider_inbox.late (message)
        SELECT g.message FROM given g WHERE g.segment < current - 13 ORDER BY g.message
        ON CONFLICT DO NOTHING RETURNING late.message
    )
    SELECT f.message FROM fresh f UNION ALL SELECT o.message FROM older o;
    IF random() < cardinality(message_ids) / 1000.0 THEN
        PERFORM postrider_inbox.empty_ahead(current);
    END IF;
END $$;
COMMENT ON FUNCTION postrider_inbox.accept_at IS 'What accept_many does, with the times at which the messages were made, in microseconds since 1970.';

CREATE FUNCTION postrider_inbox.accept_many(message_ids text[]) RETURNS SETOF text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT postrider_inbox.accept_at(message_ids, ARRAY(SELECT postrider_inbox.made_at(m) FROM unnest(message_ids) WITH ORDINALITY g (m, n) ORDER BY g.n))
$$;
COMMENT ON FUNCTION postrider_inbox.accept_many IS 'Accepts messages and returns the ids of those that had not been accepted before. Call it in the transaction of what they cause.';

CREATE FUNCTION postrider_inbox.accept(message_id text) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM postrider_inbox.accept_at(ARRAY[message_id], ARRAY[postrider_inbox.made_at(message_id)]))
$$;
COMMENT ON FUNCTION postrider_inbox.accept(text) IS 'Accepts a message: true if it had not been accepted before. Call it in the transaction of what it causes: if that is rolled back, the message comes again. While another transaction that accepts the same one is under way it waits for that.';

CREATE FUNCTION postrider_inbox.accept(message_id text, made_at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF message_id IS NULL OR message_id = '' OR octet_length(message_id) > 500 THEN
        RAISE EXCEPTION 'message id: it must have from 1 to 500 bytes' USING ERRCODE = '22023';
    ELSIF made_at IS NULL OR made_at < '1970-01-01 00:00:00+00' OR made_at = 'infinity' THEN
        RAISE EXCEPTION 'made_at %: it must be the time at which the message was made, the same whenever it comes', coalesce(made_at::text, 'null') USING ERRCODE = '22023';
    END IF;
    RETURN EXISTS (SELECT FROM postrider_inbox.accept_at(ARRAY[message_id], ARRAY[(extract(epoch FROM made_at) * 1000000)::bigint]));
END $$;
COMMENT ON FUNCTION postrider_inbox.accept(text, timestamptz) IS 'Accepts a message of another sender, which tells the time at which it was made: the same whenever it comes.';

CREATE FUNCTION postrider_inbox.keeps() RETURNS interval
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT make_interval(secs => e.length * 13 / 1000000.0) FROM postrider_inbox.eras e ORDER BY e.begins DESC LIMIT 1
$$;
COMMENT ON FUNCTION postrider_inbox.keeps IS 'How long messages are remembered, from the time at which they were made; late ones from that at which they were accepted.';

CREATE FUNCTION postrider_inbox.keep(how_long interval) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment  bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    wanted  bigint := (extract(epoch FROM how_long) * 1000000 / 13)::bigint;
    e       postrider_inbox.eras%ROWTYPE;
    change  bigint;
BEGIN
    IF how_long IS NULL OR how_long NOT BETWEEN '1 hour' AND '10 years' THEN
        RAISE EXCEPTION 'keep %: it must be from 1 hour to 10 years', coalesce(how_long::text, 'null') USING ERRCODE = '22023';
    END IF;
    LOCK TABLE postrider_inbox.eras IN SHARE ROW EXCLUSIVE MODE;
    LOCK TABLE ONLY postrider_inbox.accepted IN SHARE MODE; -- what is being accepted has come to its end
    SELECT * INTO STRICT e FROM postrider_inbox.eras n ORDER BY n.begins DESC LIMIT 1;
    IF e.length = wanted THEN
        RETURN to_timestamp(greatest(e.begins, moment) / 1000000.0);
    ELSIF e.begins > moment THEN
        RAISE EXCEPTION 'keep %: another change takes effect at %: make this one after that', how_long, to_timestamp(e.begins / 1000000.0) USING ERRCODE = '55000';
    ELSIF NOT EXISTS (SELECT FROM postrider_inbox.accepted) AND NOT EXISTS (SELECT FROM postrider_inbox.late) THEN
        change := moment; -- nothing is in another segment by now
    ELSE
        change := e.begins + ((moment - e.begins) / e.length + 2) * e.length; -- no message that was made later can have been accepted
    END IF;
    INSERT INTO postrider_inbox.eras VALUES (change, wanted, e.first + (change - e.begins) / e.length + CASE WHEN change = moment THEN 1 ELSE 0 END);
    RETURN to_timestamp(change / 1000000.0);
END $$;
COMMENT ON FUNCTION postrider_inbox.keep IS 'Sets how long messages are remembered: from 1 hour to 10 years, 14 days at first. Returns from when on: of messages made later, once the inbox is in use.';

INSERT INTO postrider_inbox.version VALUES (1);
INSERT INTO postrider_inbox.eras VALUES (0, 14 * 86400000000 / 13, 0);
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA postrider_inbox FROM PUBLIC;
