SET LOCAL search_path = pg_catalog, pg_temp;

-- Topics that begin with $ are Postrider's own: what it tells operators, as messages. Nobody gets them by a wildcard in front, so that who
-- wants all that applications say does not get these too.
CREATE OR REPLACE FUNCTION postrider.topic_regex(patterns text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT '^(' || coalesce(string_agg(regexp_replace(regexp_replace(replace(replace(
            regexp_replace(p, '([\\^$|?+.(){}\[\]])', '\\\1', 'g'), '*', '[^.]+'), '>', '.+'),
            '^\[\^\.\]\+', '[^.$][^.]*'), '^\.\+', '[^$].*'), '|' ORDER BY n), '') || ')$'
        FROM unnest(patterns) WITH ORDINALITY t (p, n));
COMMENT ON FUNCTION postrider.topic_regex IS 'The regular expression of a list of patterns. As in NATS, * is one token, a trailing > one or more; in front neither is one that begins with $. An empty list matches no topic.';

CREATE OR REPLACE FUNCTION postrider.valid_patterns(patterns text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(array_ndims(patterns) = 1, false) AND (
        SELECT bool_and(p IS NOT NULL AND length(p) <= 255
            AND p COLLATE "C" ~ '^(>|(\*|[!-#%-)+,/-=?-~-][!-)+,/-=?-~-]*)(\.(\*|[!-)+,/-=?-~-]+))*(\.>)?|\$postrider(\.(\*|[!-)+,/-=?-~-]+))*\.(>|\*|[!-)+,/-=?-~-]+))$')
        FROM unnest(patterns) p);

-- NOT VALID: a change that allows more needs no look at what is there.
ALTER DOMAIN postrider.topic DROP CONSTRAINT topic_is_dot_separated_tokens;
ALTER DOMAIN postrider.topic ADD CONSTRAINT topic_is_dot_separated_tokens
    CHECK (VALUE ~ '^([!-#%-)+,/-=?-~-][!-)+,/-=?-~-]*|\$postrider\.[!-)+,/-=?-~-]+)(\.[!-)+,/-=?-~-]+)*$' AND length(VALUE) <= 255) NOT VALID;
COMMENT ON DOMAIN postrider.topic IS 'Printable ASCII tokens joined by dots, no *, no >, no leading $ but in $postrider.: the rule of package outbox/topic.';

CREATE FUNCTION postrider.may_tell(topic text, event boolean) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF event THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION 'topic "%": topics that begin with $ are Postrider''s own, which tells there what operators are to know; a message''s topic begins otherwise', topic
        USING ERRCODE = 'check_violation';
END $$;
COMMENT ON FUNCTION postrider.may_tell IS 'Raises the error of a message that is not Postrider''s own but has such a topic.';

-- What applications are not granted to insert, and would have to mean to: no function of theirs does. Null, so that a row takes no more room.
ALTER TABLE postrider.outbox ADD COLUMN event boolean;
COMMENT ON COLUMN postrider.outbox.event IS 'True: Postrider''s own message, whose topic begins with $. Never supplied by a client.';

-- As before, with one look at the topic: another constraint would be another to be planned for each INSERT.
CREATE FUNCTION postrider.accepts(topic text, event boolean, payload jsonb, body bytea, key text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN body IS NULL AND pg_catalog.ascii(topic) OPERATOR(pg_catalog.<>) 36 AND pg_catalog.pg_column_compression(payload) IS NULL
        AND (pg_catalog.pg_column_size(payload) OPERATOR(pg_catalog.<=)
            ((postrider.max_message() OPERATOR(pg_catalog.-) 512) OPERATOR(pg_catalog./) 9217)) IS TRUE
        AND (pg_catalog.octet_length(key) OPERATOR(pg_catalog.<=) 512) IS NOT FALSE
        OR postrider.accepts_text(topic, event, payload, body, key);
END $$;
COMMENT ON FUNCTION postrider.accepts(text, boolean, jsonb, bytea, text) IS 'Whether a row may be inserted; an error if it is too large or its topic is Postrider''s own. It runs for each INSERT: names are written in full instead of a search_path.';

CREATE FUNCTION postrider.accepts_text(topic text, event boolean, payload jsonb, body bytea, key text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF pg_catalog.ascii(topic) OPERATOR(pg_catalog.=) 36 THEN
        PERFORM postrider.may_tell(topic, event);
    END IF;
    RETURN postrider.accepts_text(payload, body, key);
END $$;
COMMENT ON FUNCTION postrider.accepts_text(text, boolean, jsonb, bytea, text) IS 'As accepts, for a row that has to be looked at closely.';
ALTER TABLE postrider.outbox DROP CONSTRAINT exactly_one_of_payload_and_body,
    ADD CONSTRAINT exactly_one_of_payload_and_body CHECK (postrider.accepts(topic, event, payload, body, key)) NOT VALID;

-- Constraints run as whoever inserts. None of these reveals or changes anything.
GRANT EXECUTE ON FUNCTION postrider.may_tell(text, boolean), postrider.accepts(text, boolean, jsonb, bytea, text),
    postrider.accepts_text(text, boolean, jsonb, bytea, text) TO PUBLIC;

ALTER TABLE postrider.unique_again ADD CONSTRAINT topics_with_a_dollar_are_postriders_own CHECK (ascii(topic) <> 36 OR postrider.may_tell(topic, false));
ALTER TABLE postrider.schedules ADD CONSTRAINT topics_with_a_dollar_are_postriders_own CHECK (ascii(topic) <> 36 OR postrider.may_tell(topic, false));

CREATE OR REPLACE FUNCTION postrider.sql_settings(s postrider.subscriptions) RETURNS postrider.shard_settings
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    r      postrider.shard_settings;
    wanted jsonb := s.settings;
    first  interval;
BEGIN
    first := coalesce((wanted ->> 'backoff_initial')::interval, '1 second');
    r.subscription := s.name;
    r.version := s.version;
    r.active := s.state = 'active';
    r.shards := coalesce((wanted ->> 'shards')::smallint, 4);
    IF r.shards NOT BETWEEN 1 AND 64 THEN
        RAISE EXCEPTION 'shards must be from 1 to 64' USING ERRCODE = '22023';
    END IF;
    r.topics := s.topics;
    r.regex := postrider.topic_regex(s.topics);
    r.earlier := nullif(s.earlier, '[]');
    r.earlier_until := (SELECT pg_snapshot_xmax((e ->> 'until')::pg_snapshot) FROM jsonb_array_elements(r.earlier) e
                        ORDER BY pg_snapshot_xmax((e ->> 'until')::pg_snapshot) DESC LIMIT 1);
    r.holds := wanted ->> 'on_dead' IS NOT DISTINCT FROM 'hold';
    IF jsonb_array_length(coalesce(wanted -> 'backoff_schedule', '[]')) > 0 THEN
        r.waits := ARRAY(SELECT jsonb_array_elements_text(wanted -> 'backoff_schedule')::interval);
        r.longest_wait := r.waits[cardinality(r.waits)];
        r.max_attempts := coalesce((wanted ->> 'max_attempts')::integer, cardinality(r.waits) + 1);
    ELSE
        r.waits := ARRAY[first];
        r.longest_wait := coalesce((wanted ->> 'backoff_max')::interval, greatest('1 hour', first));
        r.max_attempts := coalesce((wanted ->> 'max_attempts')::integer, 20);
    END IF;
    r.max_parked := coalesce((wanted ->> 'max_parked')::integer, 100000) / r.shards + 1;
    r.max_scheduled := coalesce((wanted ->> 'max_scheduled')::integer, 1000000) / r.shards + 1;
    RETURN r;
EXCEPTION WHEN data_exception OR invalid_parameter_value THEN
    RAISE EXCEPTION 'settings %: %', s.settings, SQLERRM USING ERRCODE = '22023', HINT = 'Look at `postrider settings`.';
END $$;
UPDATE postrider.shard_settings SET regex = postrider.topic_regex(topics);
