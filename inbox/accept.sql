-- How messages are accepted. Version 2: the segment of a message is worked out where it is wanted, as segment_of has it, which was called twice for each message
-- and took longer than all else. Version 3: nearly always all messages are of one era, which is then read once, and a place is looked for in the ring alone.

CREATE OR REPLACE FUNCTION postrider_inbox.accept_at(message_ids text[], made_at bigint[]) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    current  bigint := postrider_inbox.segment_of((extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    latest   bigint;
    earliest bigint;
    last     postrider_inbox.eras%ROWTYPE; -- the era of the latest message
BEGIN
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') AND clock_timestamp() > now() + interval '4 minutes' THEN
        RAISE EXCEPTION 'the transaction is too old to accept messages: the length of segments may have changed since it began' USING ERRCODE = '40001';
    END IF;
    SELECT min(g.made), max(g.made) INTO earliest, latest FROM unnest(made_at) g (made);
    SELECT * INTO last FROM postrider_inbox.eras e WHERE e.begins <= latest ORDER BY e.begins DESC LIMIT 1;
    IF current + 1 < last.first + (latest - last.begins) / last.length THEN
        RAISE EXCEPTION 'message "%" is of the future: the clock of this server or of its sender''s is wrong',
            (SELECT g.message FROM unnest(message_ids, made_at) g (message, made) WHERE g.made = latest LIMIT 1) USING ERRCODE = '22008';
    END IF;
    -- In order, so that two who accept the same messages wait for each other in one direction alone.
    IF earliest >= last.begins AND last.first + (earliest - last.begins) / last.length >= current - 13 THEN
        RETURN QUERY
        INSERT INTO postrider_inbox.accepted (place, segment, message)
        SELECT (last.first + (g.made - last.begins) / last.length) % 16, last.first + (g.made - last.begins) / last.length, g.message
        FROM unnest(message_ids, made_at) g (message, made) WHERE g.made IS NOT NULL ORDER BY g.message COLLATE "C"
        ON CONFLICT DO NOTHING RETURNING accepted.message;
    ELSE
        RETURN QUERY
        WITH given AS MATERIALIZED (
            SELECT DISTINCT g.message,
                (SELECT e.first + (g.made - e.begins) / e.length FROM postrider_inbox.eras e WHERE e.begins <= g.made ORDER BY e.begins DESC LIMIT 1) AS segment
            FROM unnest(message_ids, made_at) g (message, made)
        ), fresh AS (
            INSERT INTO postrider_inbox.accepted (place, segment, message)
            SELECT g.segment % 16, g.segment, g.message FROM given g WHERE g.segment >= current - 13 ORDER BY g.message COLLATE "C"
            ON CONFLICT DO NOTHING RETURNING accepted.message
        ), older AS (
            INSERT INTO postrider_inbox.late (message)
            SELECT g.message FROM given g WHERE g.segment < current - 13 ORDER BY g.message COLLATE "C"
            ON CONFLICT DO NOTHING RETURNING late.message
        )
        SELECT f.message FROM fresh f UNION ALL SELECT o.message FROM older o;
    END IF;
    IF random() < cardinality(message_ids) / 1000.0 THEN
        PERFORM postrider_inbox.empty_ahead(current);
    END IF;
END $$;
COMMENT ON FUNCTION postrider_inbox.accept_at IS 'What accept_many does, with the times at which the messages were made, in microseconds since 1970.';
