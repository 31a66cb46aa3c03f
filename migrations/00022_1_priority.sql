SET LOCAL search_path = pg_catalog, pg_temp;

-- A relay of an older build would take a subscription's classes for one, and write one's progress over another's. Those that run begin
-- anew, and are told why they may not.
ALTER TABLE postrider.relays ADD COLUMN schema integer;
COMMENT ON COLUMN postrider.relays.schema IS 'The version of the schema that it knows.';

CREATE FUNCTION postrider.relay_knows_schema() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    needed CONSTANT integer := 22;
BEGIN
    IF NEW.schema IS NULL OR NEW.schema < needed THEN
        RAISE EXCEPTION 'relay "%" (version %) is of an older build than the schema postrider, which was migrated meanwhile: start a build that knows version % of the schema',
            NEW.name, NEW.version, needed USING ERRCODE = '55000';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION postrider.relay_knows_schema IS 'Refuses relays of builds that would misread this schema. A migration that makes it unreadable for those before raises the number.';

CREATE TRIGGER relay_knows_schema BEFORE INSERT ON postrider.relays
    FOR EACH ROW EXECUTE FUNCTION postrider.relay_knows_schema();

DELETE FROM postrider.relays;
UPDATE postrider.cursors SET owner = NULL, epoch = epoch + 1;

-- A constant default, so that no row is written. It is no domain, which would rewrite the log, and has no constraint, which each INSERT
-- would pay for: who asks for a priority by a function or a library is told what is wrong, and relays take the nearest that there is.
ALTER TABLE postrider.outbox ADD COLUMN priority smallint NOT NULL DEFAULT 2;
COMMENT ON COLUMN postrider.outbox.priority IS 'From 1 (first) to 4 (last), for subscriptions with priorities; what is below counts as 1, what is above as 4.';

ALTER TABLE postrider.parked ADD COLUMN priority smallint NOT NULL DEFAULT 2;
COMMENT ON COLUMN postrider.parked.priority IS 'The message''s priority.';

CREATE FUNCTION postrider.checked_priority(priority integer) RETURNS smallint
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF priority NOT BETWEEN 1 AND 4 THEN
        RAISE EXCEPTION 'priority %: must be from 1 (first) to 4 (last); 2 is the default', priority USING ERRCODE = '22023';
    END IF;
    RETURN coalesce(priority, 2);
END $$;
COMMENT ON FUNCTION postrider.checked_priority IS 'The priority, 2 for NULL; an error if there is no such priority.';

DROP FUNCTION postrider.enqueue(text, jsonb, text, jsonb, timestamptz);
CREATE FUNCTION postrider.enqueue(topic text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT NULL,
                                  deliver_at timestamptz DEFAULT NULL, priority integer DEFAULT 2) RETURNS bigint
    LANGUAGE sql BEGIN ATOMIC
    INSERT INTO postrider.outbox (topic, key, payload, headers, deliver_at, priority)
    VALUES (enqueue.topic, enqueue.key, enqueue.payload, enqueue.headers, enqueue.deliver_at,
            CASE enqueue.priority WHEN 2 THEN 2::smallint ELSE postrider.checked_priority(enqueue.priority) END) RETURNING id;
END;
COMMENT ON FUNCTION postrider.enqueue IS 'Inserts a message with a JSON payload and returns its id.';

DROP FUNCTION postrider.enqueue_bytes(text, bytea, text, jsonb, timestamptz);
CREATE FUNCTION postrider.enqueue_bytes(topic text, body bytea, key text DEFAULT NULL, headers jsonb DEFAULT NULL,
                                        deliver_at timestamptz DEFAULT NULL, priority integer DEFAULT 2) RETURNS bigint
    LANGUAGE sql BEGIN ATOMIC
    INSERT INTO postrider.outbox (topic, key, body, headers, deliver_at, priority)
    VALUES (enqueue_bytes.topic, enqueue_bytes.key, enqueue_bytes.body, enqueue_bytes.headers, enqueue_bytes.deliver_at,
            CASE enqueue_bytes.priority WHEN 2 THEN 2::smallint ELSE postrider.checked_priority(enqueue_bytes.priority) END) RETURNING id;
END;
COMMENT ON FUNCTION postrider.enqueue_bytes IS 'Inserts a message with a body of bytes and returns its id.';

REVOKE ALL ON FUNCTION postrider.relay_knows_schema(), postrider.checked_priority(integer),
    postrider.enqueue(text, jsonb, text, jsonb, timestamptz, integer),
    postrider.enqueue_bytes(text, bytea, text, jsonb, timestamptz, integer) FROM PUBLIC;
-- It reveals and changes nothing, and runs as whoever enqueues.
GRANT EXECUTE ON FUNCTION postrider.checked_priority(integer) TO PUBLIC;
