-- +goose Up

-- Names mean the same whatever the migrating role's search_path is. SQL functions have bodies that are parsed now, once, and
-- PL/pgSQL functions a search_path of their own, so that nobody's operators or functions ever stand in for PostgreSQL's.
SET LOCAL search_path = pg_catalog, pg_temp;

-- One row: which database this is. Stored transaction ids mean something here and nowhere else.
CREATE TABLE postrider.source (
    one               boolean PRIMARY KEY DEFAULT true CHECK (one),
    id                text   NOT NULL,
    system_identifier bigint NOT NULL,
    database_oid      oid    NOT NULL,
    segment_seconds   bigint NOT NULL DEFAULT 7200
);

INSERT INTO postrider.source (id, system_identifier, database_oid)
SELECT left(replace(gen_random_uuid()::text, '-', ''), 8),
       (SELECT system_identifier FROM pg_control_system()),
       (SELECT oid FROM pg_database WHERE datname = current_database());

-- CACHE 1: ids ascend in the order of insertion across sessions, which key order rests on.
CREATE SEQUENCE postrider.outbox_id_seq AS bigint CACHE 1;

-- The segment of the ring that rows go to now: one SQL expression, so that the planner inlines it into the INSERT.
-- Its length is changed with postrider.set_segment_length(interval).
-- +goose StatementBegin
CREATE FUNCTION postrider.current_segment() RETURNS smallint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (floor(date_part('epoch', statement_timestamp()) / 7200)::bigint % 16)::smallint;
-- +goose StatementEnd

-- A relay whose retention outgrows the ring calls it, and owns nothing here: hence the owner's rights.
-- +goose StatementBegin
CREATE FUNCTION postrider.set_segment_length(length interval) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seconds numeric := extract(epoch FROM length);
BEGIN
    IF seconds IS NULL OR seconds < 1 OR seconds <> floor(seconds) THEN
        RAISE EXCEPTION 'segment length %: must be a whole number of seconds, at least 1', length USING ERRCODE = '22023';
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION postrider.current_segment() RETURNS smallint LANGUAGE sql STABLE PARALLEL SAFE '
        'RETURN (floor(date_part(''epoch'', statement_timestamp()) / %s)::bigint %% 16)::smallint', seconds::bigint);
    UPDATE postrider.source SET segment_seconds = seconds;
END $$;
-- +goose StatementEnd

-- What is checked of every row is a matter of domains: PostgreSQL reads and plans a table's constraints anew for each statement that
-- inserts, those of a domain once per session.

-- The topic rule is the one of package outbox/topic: printable ASCII tokens joined by dots, no '*', no '>', no leading '$'.
CREATE DOMAIN postrider.topic AS text COLLATE "C" CONSTRAINT topic_is_dot_separated_tokens
    CHECK (VALUE ~ '^[!-#%-)+,/-=?-~-][!-)+,/-=?-~-]*(\.[!-)+,/-=?-~-]+)*$' AND length(VALUE) <= 255);

-- strict: the lax mode would look into arrays and take ["x"] for a string.
CREATE DOMAIN postrider.headers AS jsonb CONSTRAINT headers_are_a_flat_object_of_strings
    CHECK (jsonb_typeof(VALUE) = 'object' AND NOT jsonb_path_exists(VALUE, 'strict $.* ? (@.type() != "string")'));

-- The log. Applications insert topic, key, payload or body, headers and deliver_at; the rest is never supplied by a client.
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
    headers    postrider.headers,
    PRIMARY KEY (id, segment),
    CONSTRAINT exactly_one_of_payload_and_body
        CHECK ((payload IS NULL) <> (body IS NULL))
) PARTITION BY LIST (segment);

ALTER SEQUENCE postrider.outbox_id_seq OWNED BY postrider.outbox.id;

-- Windows are ranges of transaction ids.
CREATE INDEX outbox_xid ON postrider.outbox (xid);

-- All segments exist from the start: no partition is ever missing, so no INSERT can fail for want of one.
-- Rows are never updated and segments are emptied by TRUNCATE: vacuum has nothing to gain from insertions.
-- +goose StatementBegin
DO $$
BEGIN
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE postrider.outbox_%s PARTITION OF postrider.outbox FOR VALUES IN (%s) '
                       'WITH (autovacuum_vacuum_insert_threshold = -1)', i, i);
    END LOOP;
END $$;
-- +goose StatementEnd

CREATE PUBLICATION postrider FOR TABLE postrider.outbox WITH (publish = 'insert', publish_via_partition_root = true);

-- +goose StatementBegin
CREATE FUNCTION postrider.enqueue(topic text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT NULL,
                                  deliver_at timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE sql BEGIN ATOMIC
    INSERT INTO postrider.outbox (topic, key, payload, headers, deliver_at)
    VALUES (enqueue.topic, enqueue.key, enqueue.payload, enqueue.headers, enqueue.deliver_at) RETURNING id;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION postrider.enqueue_bytes(topic text, body bytea, key text DEFAULT NULL, headers jsonb DEFAULT NULL,
                                        deliver_at timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE sql BEGIN ATOMIC
    INSERT INTO postrider.outbox (topic, key, body, headers, deliver_at)
    VALUES (enqueue_bytes.topic, enqueue_bytes.key, enqueue_bytes.body, enqueue_bytes.headers, enqueue_bytes.deliver_at) RETURNING id;
END;
-- +goose StatementEnd

-- +goose Down
DROP PUBLICATION postrider;
DROP FUNCTION postrider.enqueue(text, jsonb, text, jsonb, timestamptz), postrider.enqueue_bytes(text, bytea, text, jsonb, timestamptz);
DROP TABLE postrider.outbox, postrider.source;
DROP DOMAIN postrider.topic, postrider.headers;
DROP FUNCTION postrider.current_segment(), postrider.set_segment_length(interval);
