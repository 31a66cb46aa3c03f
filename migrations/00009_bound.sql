-- +goose Up

SET LOCAL search_path = pg_catalog, pg_temp;

-- How large a message may be: key, payload as text, and body together; and its headers as text. Refused at INSERT, where the
-- application is still told. One SQL expression, so that the planner inlines it; changed with postrider.set_max_message(bigint).
CREATE FUNCTION postrider.max_message() RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 16777216::bigint;

-- A relay whose POSTRIDER_MAX_MESSAGE is set calls it, and owns nothing here: hence the owner's rights. True if it changed something.
-- +goose StatementBegin
CREATE FUNCTION postrider.set_max_message(bytes bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
-- +goose StatementEnd

-- How long a jsonb is as text; null if that cannot be told because it is longer than the server can write. Storage tells little: 1e131071
-- takes 16 bytes and 131,072 characters, and what came compressed out of another table takes a hundredth of what it is.
-- +goose StatementBegin
CREATE FUNCTION postrider.text_length(value jsonb) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
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
-- +goose StatementEnd

-- Copies of what is in the table already (by logical replication, by rebase, which alone locks the outbox so) are taken as they are.
-- +goose StatementBegin
CREATE FUNCTION postrider.refuse_size(what text, bytes bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
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
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION postrider.check_content(payload jsonb, body bytea, key text) RETURNS boolean
    LANGUAGE plpgsql PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
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
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION postrider.check_headers(headers jsonb) RETURNS boolean
    LANGUAGE plpgsql PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size bigint := postrider.text_length(headers);
BEGIN
    RETURN CASE WHEN size <= postrider.max_message() THEN true ELSE postrider.refuse_size('the headers have', size) END;
END $$;
-- +goose StatementEnd

-- What is asked of each row, as cheaply as can be: PostgreSQL reads and plans a table's constraints anew for each statement, node by
-- node, and a function that sets something costs as much again. The most that a byte of jsonb comes to as text is 9,217: a number of
-- 16 bytes, to_jsonb(round(1e131071, 16383)). What is so small that it cannot be too large is not written out.
-- +goose StatementBegin
CREATE FUNCTION postrider.accepts(payload jsonb, body bytea, key text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN body IS NULL AND pg_catalog.pg_column_compression(payload) IS NULL
        AND (pg_catalog.pg_column_size(payload) OPERATOR(pg_catalog.<=)
            ((postrider.max_message() OPERATOR(pg_catalog.-) 512) OPERATOR(pg_catalog./) 9217)) IS TRUE
        AND (pg_catalog.octet_length(key) OPERATOR(pg_catalog.<=) 512) IS NOT FALSE
        OR postrider.accepts_text(payload, body, key);
END $$;
-- +goose StatementEnd

-- What cannot come to 1 GiB is written out.
-- +goose StatementBegin
CREATE FUNCTION postrider.accepts_text(payload jsonb, body bytea, key text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (body IS NULL AND pg_catalog.pg_column_compression(payload) IS NULL AND pg_catalog.pg_column_size(payload) OPERATOR(pg_catalog.<=) 100000
            AND (pg_catalog.octet_length(payload::pg_catalog.text) OPERATOR(pg_catalog.+) COALESCE(pg_catalog.octet_length(key), 0))
                OPERATOR(pg_catalog.<=) postrider.max_message()) IS TRUE
        OR postrider.check_content(payload, body, key);
END $$;
-- +goose StatementEnd

ALTER TABLE postrider.outbox DROP CONSTRAINT exactly_one_of_payload_and_body;
ALTER TABLE postrider.outbox ADD CONSTRAINT exactly_one_of_payload_and_body CHECK (postrider.accepts(payload, body, key)) NOT VALID;

ALTER DOMAIN postrider.headers ADD CONSTRAINT headers_are_within_the_limit CHECK (
    VALUE IS NULL OR pg_column_size(VALUE) <= 512 AND pg_column_compression(VALUE) IS NULL OR postrider.check_headers(VALUE)) NOT VALID;

-- Constraints run as whoever inserts, and applications have their grants already. None of these reveals or changes anything.
REVOKE ALL ON FUNCTION postrider.set_max_message(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION postrider.accepts(jsonb, bytea, text), postrider.accepts_text(jsonb, bytea, text),
    postrider.check_content(jsonb, bytea, text), postrider.check_headers(jsonb),
    postrider.refuse_size(text, bigint), postrider.text_length(jsonb), postrider.max_message() TO PUBLIC;
-- +goose StatementBegin
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN SELECT a.grantee::regrole::text FROM pg_proc p, aclexplode(p.proacl) a
                WHERE p.oid = 'postrider.set_segment_length(interval)'::regprocedure AND a.privilege_type = 'EXECUTE' AND a.grantee <> 0 LOOP
        EXECUTE 'GRANT EXECUTE ON FUNCTION postrider.set_max_message(bigint) TO ' || role;
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
ALTER DOMAIN postrider.headers DROP CONSTRAINT headers_are_within_the_limit;
ALTER TABLE postrider.outbox DROP CONSTRAINT exactly_one_of_payload_and_body;
ALTER TABLE postrider.outbox ADD CONSTRAINT exactly_one_of_payload_and_body CHECK ((payload IS NULL) <> (body IS NULL)) NOT VALID;
DROP FUNCTION postrider.accepts(jsonb, bytea, text), postrider.accepts_text(jsonb, bytea, text),
    postrider.check_content(jsonb, bytea, text), postrider.check_headers(jsonb),
    postrider.refuse_size(text, bigint), postrider.text_length(jsonb), postrider.set_max_message(bigint), postrider.max_message();
