SET LOCAL search_path = pg_catalog, pg_temp;

-- What is asked of each row stays as it was, and costs less: functions and operators are looked up, and their rights tested, for each
-- statement, so few of them say it; and a regular expression builds the states that a text leads it through anew for each row, so the letters
-- of one word that hardly any topic begins with are not in that of the others. What is ASCII has as many bytes as characters.
-- No row is read or written. The outbox is locked for the moment in which its constraint is replaced.
ALTER DOMAIN postrider.topic DROP CONSTRAINT topic_is_dot_separated_tokens;
ALTER DOMAIN postrider.topic ADD CONSTRAINT topic_is_dot_separated_tokens
    CHECK ((VALUE ~ '^[!-#%-)+,/-=?-~-](?:\.?[!-)+,/-=?-~-])*$' OR VALUE ~ '^\$postrider(?:\.[!-)+,/-=?-~-]+)+$') AND octet_length(VALUE) <= 255) NOT VALID;

-- In the strict mode, for the lax one would look into arrays and take ["x"] for a string. It is true or false of every jsonb, never null.
ALTER DOMAIN postrider.headers DROP CONSTRAINT headers_are_a_flat_object_of_strings;
ALTER DOMAIN postrider.headers ADD CONSTRAINT headers_are_a_flat_object_of_strings
    CHECK (VALUE @@ 'strict $.type() == "object" && !exists($.* ? (@.type() != "string"))') NOT VALID;

-- The domain as a parameter, so that the constraint has no conversion. What returns null accepts the row as well: a constraint refuses what is
-- false, and a variable is returned at less cost than an expression. Before '%' are '$', of Postrider's own topics, and three characters
-- that hardly any topic begins with.
CREATE FUNCTION postrider.accepts(topic postrider.topic, event boolean, payload jsonb, body bytea, key text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    nothing_wrong boolean;
BEGIN
    IF body IS NULL AND topic COLLATE pg_catalog."C" OPERATOR(pg_catalog.>=) '%' AND pg_catalog.pg_column_compression(payload) IS NULL
        AND pg_catalog.pg_column_size(payload) OPERATOR(pg_catalog.<=)
            ((postrider.max_message() OPERATOR(pg_catalog.-) 512) OPERATOR(pg_catalog./) 9217)
        AND (key IS NULL OR pg_catalog.octet_length(key) OPERATOR(pg_catalog.<=) 512) THEN
        RETURN nothing_wrong;
    END IF;
    RETURN postrider.accepts_text(topic, event, payload, body, key);
END $$;
COMMENT ON FUNCTION postrider.accepts(postrider.topic, boolean, jsonb, bytea, text) IS 'Not false: the row may be inserted. An error if it is too large or its topic is Postrider''s own. It runs for each INSERT: names are written in full instead of a search_path.';
-- It runs as whoever inserts, and reveals and changes nothing.
GRANT EXECUTE ON FUNCTION postrider.accepts(postrider.topic, boolean, jsonb, bytea, text) TO PUBLIC;

ALTER TABLE postrider.outbox DROP CONSTRAINT exactly_one_of_payload_and_body,
    ADD CONSTRAINT exactly_one_of_payload_and_body CHECK (postrider.accepts(topic, event, payload, body, key)) NOT VALID;
DROP FUNCTION postrider.accepts(text, boolean, jsonb, bytea, text);
