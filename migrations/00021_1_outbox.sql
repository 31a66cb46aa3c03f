-- Names mean the same whatever the migrating role's search_path is. SQL functions have bodies that are parsed now, once; the others
-- pin a search_path, so that nobody's operators or functions ever stand in for PostgreSQL's, and row_security = off: they see
-- every row or say that they cannot, for a message that row security hides must not count as one that is not there.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE TABLE postrider.source (
    one               boolean PRIMARY KEY DEFAULT true CHECK (one),
    id                text   NOT NULL,
    system_identifier bigint NOT NULL,
    database_oid      oid    NOT NULL,
    segment_seconds   bigint NOT NULL DEFAULT 7200
);
COMMENT ON TABLE postrider.source IS 'One row: which database this is. Stored transaction ids mean something here and nowhere else.';
COMMENT ON COLUMN postrider.source.one IS 'True: there is one row.';
COMMENT ON COLUMN postrider.source.id IS 'The first part of each message id on the wire, source-id-micros.';
COMMENT ON COLUMN postrider.source.system_identifier IS 'The cluster that transaction ids belong to: see postrider.rebase.';
COMMENT ON COLUMN postrider.source.database_oid IS 'The database that transaction ids belong to.';
COMMENT ON COLUMN postrider.source.segment_seconds IS 'How long a segment of the ring is the current one: see postrider.set_segment_length.';

INSERT INTO postrider.source (id, system_identifier, database_oid)
SELECT left(replace(gen_random_uuid()::text, '-', ''), 8),
       (SELECT system_identifier FROM pg_control_system()),
       (SELECT oid FROM pg_database WHERE datname = current_database());

-- CACHE 1: ids ascend in the order of insertion across sessions, which key order rests on.
CREATE SEQUENCE postrider.outbox_id_seq AS bigint CACHE 1;
COMMENT ON SEQUENCE postrider.outbox_id_seq IS 'Ids of the outbox, in the order of insertion.';

-- One SQL expression, so that the planner inlines it into the INSERT. Never negative, whatever the server's clock says: '& 15' is the
-- remainder that '%' is not before 1970.
CREATE FUNCTION postrider.current_segment() RETURNS smallint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (floor(date_part('epoch', statement_timestamp()) / 7200)::bigint & 15)::smallint;
COMMENT ON FUNCTION postrider.current_segment IS 'The segment of the ring that rows go to now. postrider.set_segment_length changes it.';

-- From a second to ten years: the ring takes 16 segments' time to come round, and what is in the current one is not emptied.
CREATE FUNCTION postrider.set_segment_length(length interval) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    seconds numeric := extract(epoch FROM length);
BEGIN
    IF seconds IS NULL OR seconds < 1 OR seconds > 315576000 OR seconds <> floor(seconds) THEN
        RAISE EXCEPTION 'segment length %: must be a whole number of seconds, from 1 second to 10 years', coalesce(length::text, 'null')
            USING ERRCODE = '22023';
    END IF;
    -- First, so that of two who come at once one waits for the other.
    UPDATE postrider.source SET segment_seconds = seconds;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION postrider.current_segment() RETURNS smallint LANGUAGE sql STABLE PARALLEL SAFE '
        'RETURN (floor(date_part(''epoch'', statement_timestamp()) / %s)::bigint & 15)::smallint', seconds::bigint);
END $$;
COMMENT ON FUNCTION postrider.set_segment_length IS 'Sets how long a segment is the current one. A relay whose retention outgrows the ring calls it, and owns nothing here: hence the owner''s rights.';

-- One SQL expression, so that the planner inlines it.
CREATE FUNCTION postrider.max_message() RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 16777216::bigint;
COMMENT ON FUNCTION postrider.max_message IS 'How large a message may be, in bytes: key, payload as text, and body together; and its headers as text. postrider.set_max_message changes it.';

CREATE FUNCTION postrider.set_max_message(bytes bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF bytes IS NULL OR bytes NOT BETWEEN 65536 AND 268435456 THEN
        RAISE EXCEPTION 'largest message %: must be from 65536 (64 KiB) to 268435456 bytes (256 MiB)', bytes USING ERRCODE = '22023';
    END IF;
    IF bytes = postrider.max_message() THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION postrider.max_message() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN %s::bigint', bytes);
    RETURN true;
END $$;
COMMENT ON FUNCTION postrider.set_max_message IS 'Sets the size that messages may have; true if it was another one. A relay whose POSTRIDER_MAX_MESSAGE is set calls it, and owns nothing here: hence the owner''s rights.';

-- Storage tells little: 1e131071 takes 16 bytes and 131,072 characters, and what came compressed out of another table takes a
-- hundredth of what it is.
CREATE FUNCTION postrider.text_length(value jsonb) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF pg_column_size(value) < 100000 AND pg_column_compression(value) IS NULL THEN -- 1 GiB cannot come of it
        RETURN octet_length(value::text);
    END IF;
    BEGIN
        RETURN octet_length(value::text);
    EXCEPTION WHEN program_limit_exceeded OR out_of_memory THEN
        RETURN NULL;
    END;
END $$;
COMMENT ON FUNCTION postrider.text_length IS 'How long a jsonb is as text; null if that cannot be told because it is longer than the server can write.';

CREATE FUNCTION postrider.refuse_size(what text, bytes bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF current_setting('session_replication_role') = 'replica' OR EXISTS (
        SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'postrider.outbox'::regclass AND mode = 'ExclusiveLock' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION '% % bytes: at most % are allowed', what, coalesce(bytes::text, 'more than 1073741823'), postrider.max_message()
        USING ERRCODE = 'program_limit_exceeded',
              HINT = 'Keep the data elsewhere and put a reference into the message, or raise the limit: POSTRIDER_MAX_MESSAGE of a relay, or postrider.set_max_message(bytes).';
END $$;
COMMENT ON FUNCTION postrider.refuse_size IS 'Raises the error of a message that is too large, unless it is a copy of one that is in the table already: by logical replication, or by rebase, which alone locks the outbox so.';

CREATE FUNCTION postrider.check_content(payload jsonb, body bytea, key text) RETURNS boolean
    LANGUAGE plpgsql PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    most bigint := postrider.max_message();
    size bigint := coalesce(octet_length(body), 0)::bigint + coalesce(octet_length(key), 0);
BEGIN
    IF (payload IS NULL) = (body IS NULL) THEN
        RETURN false; -- the constraint's name says the rest
    END IF;
    IF payload IS NOT NULL AND size <= most THEN
        size := size + postrider.text_length(payload);
    END IF;
    RETURN CASE WHEN size <= most THEN true ELSE postrider.refuse_size('the message has', size) END;
END $$;
COMMENT ON FUNCTION postrider.check_content IS 'Whether a message has a payload or a body, not both; an error if it is too large.';

CREATE FUNCTION postrider.check_headers(headers jsonb) RETURNS boolean
    LANGUAGE plpgsql PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    size bigint := postrider.text_length(headers);
BEGIN
    RETURN CASE WHEN size <= postrider.max_message() THEN true ELSE postrider.refuse_size('the headers have', size) END;
END $$;
COMMENT ON FUNCTION postrider.check_headers IS 'True; an error if the headers are too large.';

-- What is asked of each row, as cheaply as can be: PostgreSQL reads and plans a table's constraints anew for each statement, node by
-- node, and a function that sets something costs as much again. The most that a byte of jsonb comes to as text is 9,217: a number of
-- 16 bytes, to_jsonb(round(1e131071, 16383)). What is so small that it cannot be too large is not written out.
CREATE FUNCTION postrider.accepts(payload jsonb, body bytea, key text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN body IS NULL AND pg_catalog.pg_column_compression(payload) IS NULL
        AND (pg_catalog.pg_column_size(payload) OPERATOR(pg_catalog.<=)
            ((postrider.max_message() OPERATOR(pg_catalog.-) 512) OPERATOR(pg_catalog./) 9217)) IS TRUE
        AND (pg_catalog.octet_length(key) OPERATOR(pg_catalog.<=) 512) IS NOT FALSE
        OR postrider.accepts_text(payload, body, key);
END $$;
COMMENT ON FUNCTION postrider.accepts IS 'Whether a row may be inserted; an error if it is too large. It runs for each INSERT: names are written in full instead of a search_path.';

-- What cannot come to 1 GiB is written out.
CREATE FUNCTION postrider.accepts_text(payload jsonb, body bytea, key text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (body IS NULL AND pg_catalog.pg_column_compression(payload) IS NULL AND pg_catalog.pg_column_size(payload) OPERATOR(pg_catalog.<=) 100000
            AND (pg_catalog.octet_length(payload::pg_catalog.text) OPERATOR(pg_catalog.+) COALESCE(pg_catalog.octet_length(key), 0))
                OPERATOR(pg_catalog.<=) postrider.max_message()) IS TRUE
        OR postrider.check_content(payload, body, key);
END $$;
COMMENT ON FUNCTION postrider.accepts_text IS 'As accepts, for a row whose size has to be looked at.';

-- What is checked of every row is a matter of domains as far as possible: PostgreSQL reads and plans a table's constraints anew for each
-- statement that inserts, those of a domain once per session.

CREATE DOMAIN postrider.topic AS text COLLATE "C" CONSTRAINT topic_is_dot_separated_tokens
    CHECK (VALUE ~ '^[!-#%-)+,/-=?-~-][!-)+,/-=?-~-]*(\.[!-)+,/-=?-~-]+)*$' AND length(VALUE) <= 255);
COMMENT ON DOMAIN postrider.topic IS 'Printable ASCII tokens joined by dots, no *, no >, no leading $: the rule of package outbox/topic.';

-- strict: the lax mode would look into arrays and take ["x"] for a string.
CREATE DOMAIN postrider.headers AS jsonb CONSTRAINT headers_are_a_flat_object_of_strings
    CHECK (jsonb_typeof(VALUE) = 'object' AND NOT jsonb_path_exists(VALUE, 'strict $.* ? (@.type() != "string")'));
COMMENT ON DOMAIN postrider.headers IS 'A flat object of strings.';

CREATE TABLE postrider.outbox (
    id         bigint      NOT NULL DEFAULT nextval('postrider.outbox_id_seq'),
    xid        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deliver_at timestamptz,
    segment    smallint    NOT NULL DEFAULT postrider.current_segment(),
    topic      postrider.topic NOT NULL,
    key        text,
    payload    jsonb,
    body       bytea,
    headers    postrider.headers
) PARTITION BY LIST (segment);
COMMENT ON TABLE postrider.outbox IS 'The log. Applications insert topic, key, payload or body, headers and deliver_at; the rest is never supplied by a client. A ring of 16 segments: rows are never updated, and old segments are emptied.';
COMMENT ON COLUMN postrider.outbox.id IS 'Ascends in the order of insertion. Ids may come again (after TRUNCATE ... RESTART IDENTITY, where a copy left the sequence behind, after a crash with asynchronous commits): a row is known by its id and its creation.';
COMMENT ON COLUMN postrider.outbox.xid IS 'The transaction that inserted the row: what a snapshot sees of the log follows from it.';
COMMENT ON COLUMN postrider.outbox.created_at IS 'When the row was inserted, by the server''s clock.';
COMMENT ON COLUMN postrider.outbox.deliver_at IS 'Not delivered before this time; null is now.';
COMMENT ON COLUMN postrider.outbox.segment IS 'Where in the ring the row is.';
COMMENT ON COLUMN postrider.outbox.topic IS 'What the message is about: subscriptions choose by it.';
COMMENT ON COLUMN postrider.outbox.key IS 'Messages of one key are delivered in order; null has none.';
COMMENT ON COLUMN postrider.outbox.payload IS 'The message, if it is JSON.';
COMMENT ON COLUMN postrider.outbox.body IS 'The message, if it is bytes.';
COMMENT ON COLUMN postrider.outbox.headers IS 'Travel along with the message.';

ALTER SEQUENCE postrider.outbox_id_seq OWNED BY postrider.outbox.id;

-- Windows are ranges of transaction ids.
CREATE INDEX outbox_xid ON postrider.outbox (xid);

-- All segments exist from the start: no partition is ever missing, so no INSERT can fail for want of one.
-- Rows are never updated and segments are emptied by TRUNCATE: vacuum has nothing to gain from insertions.
-- Each has a key of its own: with one of the whole table, which would be (id, segment), the planner takes an id for that of half a per cent
-- of all rows, as long as nobody has analysed them.
DO $$
BEGIN
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE postrider.outbox_%s PARTITION OF postrider.outbox FOR VALUES IN (%s) '
                       'WITH (autovacuum_vacuum_insert_threshold = -1)', i, i);
        EXECUTE format('ALTER TABLE postrider.outbox_%s ADD PRIMARY KEY (id)', i);
        EXECUTE format('COMMENT ON TABLE postrider.outbox_%s IS ''Segment %s of the ring.''', i, i);
    END LOOP;
END $$;

-- NOT VALID, for a restored dump: what the table has may be larger than what is allowed by then.
ALTER TABLE postrider.outbox ADD CONSTRAINT exactly_one_of_payload_and_body CHECK (postrider.accepts(payload, body, key)) NOT VALID;
ALTER DOMAIN postrider.headers ADD CONSTRAINT headers_are_within_the_limit CHECK (
    VALUE IS NULL OR pg_column_size(VALUE) <= 512 AND pg_column_compression(VALUE) IS NULL OR postrider.check_headers(VALUE)) NOT VALID;

CREATE PUBLICATION postrider FOR TABLE postrider.outbox WITH (publish = 'insert', publish_via_partition_root = true);

CREATE FUNCTION postrider.enqueue(topic text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT NULL,
                                  deliver_at timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE sql BEGIN ATOMIC
    INSERT INTO postrider.outbox (topic, key, payload, headers, deliver_at)
    VALUES (enqueue.topic, enqueue.key, enqueue.payload, enqueue.headers, enqueue.deliver_at) RETURNING id;
END;
COMMENT ON FUNCTION postrider.enqueue IS 'Inserts a message with a JSON payload and returns its id.';

CREATE FUNCTION postrider.enqueue_bytes(topic text, body bytea, key text DEFAULT NULL, headers jsonb DEFAULT NULL,
                                        deliver_at timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE sql BEGIN ATOMIC
    INSERT INTO postrider.outbox (topic, key, body, headers, deliver_at)
    VALUES (enqueue_bytes.topic, enqueue_bytes.key, enqueue_bytes.body, enqueue_bytes.headers, enqueue_bytes.deliver_at) RETURNING id;
END;
COMMENT ON FUNCTION postrider.enqueue_bytes IS 'Inserts a message with a body of bytes and returns its id.';

CREATE FUNCTION postrider.notify_outbox() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('postrider', '');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION postrider.notify_outbox IS 'The trigger that postrider.enable_notify makes: tells relays that listen.';

-- The trigger's lock waits for open transactions, and applications wait behind it: a short time at most, then it gives up.
CREATE FUNCTION postrider.enable_notify() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '2s' AS $$
    CREATE OR REPLACE TRIGGER notify_outbox AFTER INSERT ON postrider.outbox
        FOR EACH STATEMENT EXECUTE FUNCTION postrider.notify_outbox()
$$;
COMMENT ON FUNCTION postrider.enable_notify IS 'Makes each INSERT notify relays that listen (an alternative to streaming). A committing NOTIFY takes a cluster-wide lock until the commit has ended.';

CREATE FUNCTION postrider.disable_notify() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '2s' AS $$
    DROP TRIGGER IF EXISTS notify_outbox ON postrider.outbox
$$;
COMMENT ON FUNCTION postrider.disable_notify IS 'Takes back postrider.enable_notify.';
