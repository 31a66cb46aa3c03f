-- What is built on accept_at, and the first rows.

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

INSERT INTO postrider_inbox.version VALUES (3);
INSERT INTO postrider_inbox.eras VALUES (0, 14 * 86400000000 / 13, 0);
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA postrider_inbox FROM PUBLIC;
