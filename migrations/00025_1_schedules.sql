SET LOCAL search_path = pg_catalog, pg_temp;

-- Messages at times that a cron expression names. PostgreSQL has no parser of those: relays and commands read them, and what they cannot
-- read is the row's trouble. Any relay fires what is due, by this server's clock.
CREATE TABLE postrider.schedules (
    name          text PRIMARY KEY
                  CONSTRAINT name_is_lower_case_letters_digits_dashes CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    cron          text NOT NULL,
    zone          text NOT NULL DEFAULT 'UTC',
    topic         postrider.topic NOT NULL,
    key           text,
    payload       jsonb NOT NULL DEFAULT '{}',
    headers       postrider.headers,
    priority      smallint NOT NULL DEFAULT 2
                  CONSTRAINT priority_is_from_1_to_4 CHECK (priority BETWEEN 1 AND 4),
    missed        text NOT NULL DEFAULT 'last'
                  CONSTRAINT missed_is_skip_last_or_all CHECK (missed ~ '^(skip|last|all\(([1-9][0-9]{0,2}|1000)\))$'),
    paused        boolean NOT NULL DEFAULT false,
    paused_reason text,
    version       bigint NOT NULL DEFAULT 1,
    planned_from  timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_run      timestamptz,
    due           timestamptz DEFAULT clock_timestamp(),
    last_run      timestamptz,
    trouble       text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1, autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0.1);
COMMENT ON TABLE postrider.schedules IS 'Messages that relays put into the outbox at the times of a cron expression, each once.';
COMMENT ON COLUMN postrider.schedules.name IS 'Lower-case letters, digits, _ and -. It is the header schedule of each message.';
COMMENT ON COLUMN postrider.schedules.cron IS 'Minute, hour, day of month, month and day of week, or @daily and the like.';
COMMENT ON COLUMN postrider.schedules.zone IS 'The zone of the tz database whose wall clock the expression speaks of.';
COMMENT ON COLUMN postrider.schedules.topic IS 'Of the messages.';
COMMENT ON COLUMN postrider.schedules.key IS 'Of the messages; null has none.';
COMMENT ON COLUMN postrider.schedules.payload IS 'Of the messages.';
COMMENT ON COLUMN postrider.schedules.headers IS 'Of the messages; schedule (the name) and planned (the time that was meant) are added.';
COMMENT ON COLUMN postrider.schedules.priority IS 'Of the messages, from 1 (first) to 4 (last).';
COMMENT ON COLUMN postrider.schedules.missed IS 'Which runs are made up for when no relay could fire them within a minute: none (skip), the last one (last), or the last n of them: all(n).';
COMMENT ON COLUMN postrider.schedules.paused IS 'Nothing is fired, and what falls into a pause is not made up for.';
COMMENT ON COLUMN postrider.schedules.paused_reason IS 'Why it is paused, if that was said.';
COMMENT ON COLUMN postrider.schedules.version IS 'Raised by every change: who has decided by an older one fires nothing.';
COMMENT ON COLUMN postrider.schedules.planned_from IS 'The first run is after this moment, while there is no next_run.';
COMMENT ON COLUMN postrider.schedules.next_run IS 'The next run that was not fired; null until a relay has read the expression.';
COMMENT ON COLUMN postrider.schedules.due IS 'When a relay is to look at it: at its next run, later if there was trouble, never (null) while it is paused.';
COMMENT ON COLUMN postrider.schedules.last_run IS 'The last run that was fired, by the time that was meant. Runs by hand do not count.';
COMMENT ON COLUMN postrider.schedules.trouble IS 'Why it cannot be fired, when it cannot.';
COMMENT ON COLUMN postrider.schedules.created_at IS 'When it was created.';
COMMENT ON COLUMN postrider.schedules.updated_at IS 'When it was last changed.';

CREATE INDEX schedules_due ON postrider.schedules (due) WHERE due IS NOT NULL;

-- Relays plan anew what has changed, whoever changes it and how.
CREATE FUNCTION postrider.schedule_changes() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := clock_timestamp();
    NEW.trouble := NULL;
    IF NEW.cron <> OLD.cron OR NEW.zone <> OLD.zone OR OLD.paused AND NOT NEW.paused THEN
        NEW.next_run := NULL;
        NEW.planned_from := clock_timestamp();
    END IF;
    NEW.due := CASE WHEN NOT NEW.paused THEN coalesce(NEW.next_run, clock_timestamp()) END;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION postrider.schedule_changes IS 'What a change of a schedule means for its next run.';

CREATE TRIGGER schedule_changes BEFORE UPDATE OF cron, zone, topic, key, payload, headers, priority, missed, paused ON postrider.schedules
    FOR EACH ROW WHEN ((OLD.cron, OLD.zone, OLD.topic, OLD.key, OLD.payload, OLD.headers, OLD.priority, OLD.missed, OLD.paused)
        IS DISTINCT FROM (NEW.cron, NEW.zone, NEW.topic, NEW.key, NEW.payload, NEW.headers, NEW.priority, NEW.missed, NEW.paused))
    EXECUTE FUNCTION postrider.schedule_changes();

-- As far as it can be judged here: an expression of five fields may still say what no calendar has.
CREATE FUNCTION postrider.check_schedule(name text, cron text, topic text, payload jsonb, key text, headers jsonb, zone text, missed text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    wrong text;
BEGIN
    IF name ~ '^[a-z0-9][a-z0-9_-]{0,62}$' IS NOT TRUE THEN
        wrong := format('name %s: must be 1 to 63 lower-case letters, digits, - and _, the first a letter or a digit', quote_nullable(name));
    ELSIF cron ~* '^\s*(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[0-9*,/-]+\s+[0-9*,/-]+\s+[0-9*,/-]+\s+[0-9a-z*,/-]+\s+[0-9a-z*,/-]+)\s*$' IS NOT TRUE THEN
        wrong := format('cron %s: must be five fields, minute hour day-of-month month day-of-week, such as ''30 6 * * 1-5'', or one of @yearly, @monthly, @weekly, @daily and @hourly',
            quote_nullable(cron));
    ELSIF missed ~ '^(skip|last|all\(([1-9][0-9]{0,2}|1000)\))$' IS NOT TRUE THEN
        wrong := format('missed %s: must be skip, last or all(n), n from 1 to 1000', quote_nullable(missed));
    ELSIF payload IS NULL THEN
        wrong := 'payload NULL: must be JSON; ''null'' is a value, ''{}'' the default';
    ELSIF EXISTS (SELECT FROM jsonb_object_keys(CASE jsonb_typeof(headers) WHEN 'object' THEN headers END) h WHERE lower(h) IN ('schedule', 'planned')) THEN
        wrong := 'headers: schedule and planned are set by Postrider, rename them';
    END IF;
    BEGIN
        IF wrong IS NULL AND (topic::postrider.topic IS NULL) THEN
            wrong := 'topic NULL: must be a text';
        END IF;
    EXCEPTION WHEN check_violation THEN
        wrong := format('topic %s: must be tokens of printable ASCII joined by dots, such as reports.daily, without * and >, not beginning with $, at most 255 long', quote_literal(topic));
    END;
    BEGIN
        PERFORM headers::postrider.headers;
    EXCEPTION WHEN check_violation THEN
        wrong := coalesce(wrong, format('headers %s: must be an object whose values are texts', left(headers::text, 80)));
    END;
    BEGIN
        IF (clock_timestamp() AT TIME ZONE zone) IS NULL OR zone = 'Local' OR zone LIKE 'right/%' THEN
            RAISE invalid_parameter_value;
        END IF;
    EXCEPTION WHEN invalid_parameter_value THEN
        wrong := coalesce(wrong, format('zone %s is not known: must be a name of the tz database, such as Europe/Berlin, America/New_York or UTC', quote_nullable(zone)));
    END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION '%', wrong USING ERRCODE = '22023';
    END IF;
    PERFORM postrider.accepts(payload, NULL, key);
END $$;
COMMENT ON FUNCTION postrider.check_schedule IS 'Raises an error that says what is wrong with a schedule, and what would be right.';

CREATE FUNCTION postrider.put_schedule(name text, cron text, topic text, payload jsonb DEFAULT '{}', key text DEFAULT NULL, headers jsonb DEFAULT NULL,
                                       zone text DEFAULT 'UTC', missed text DEFAULT 'last', priority integer DEFAULT 2) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    checked CONSTANT smallint := postrider.checked_priority(priority);
BEGIN
    PERFORM postrider.check_schedule(name, cron, topic, payload, key, headers, zone, missed);
    LOOP
        INSERT INTO postrider.schedules AS s (name, cron, zone, topic, key, payload, headers, priority, missed)
        VALUES (put_schedule.name, put_schedule.cron, put_schedule.zone, put_schedule.topic, put_schedule.key, put_schedule.payload, put_schedule.headers,
                checked, put_schedule.missed)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN 'created';
        END IF;
        UPDATE postrider.schedules s
        SET cron = put_schedule.cron, zone = put_schedule.zone, topic = put_schedule.topic, key = put_schedule.key, payload = put_schedule.payload,
            headers = put_schedule.headers, priority = checked, missed = put_schedule.missed
        WHERE s.name = put_schedule.name
          AND (s.cron, s.zone, s.topic, s.key, s.payload, s.headers, s.priority, s.missed) IS DISTINCT FROM
              (put_schedule.cron, put_schedule.zone, put_schedule.topic, put_schedule.key, put_schedule.payload, put_schedule.headers, checked, put_schedule.missed);
        IF FOUND THEN
            RETURN 'changed';
        ELSIF EXISTS (SELECT FROM postrider.schedules s WHERE s.name = put_schedule.name) THEN
            RETURN 'unchanged';
        END IF; -- it was removed meanwhile
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.put_schedule IS 'Creates a schedule, or makes the one of this name what is said here; answers created, changed or unchanged. A pause stays. On the command line: postrider schedules apply.';

CREATE FUNCTION postrider.remove_schedule(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    DELETE FROM postrider.schedules s WHERE s.name = remove_schedule.name;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.remove_schedule IS 'Removes a schedule; false if there is none. Messages that it has fired stay. On the command line: postrider schedules remove.';

CREATE FUNCTION postrider.pause_schedule(name text, reason text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    UPDATE postrider.schedules s
    SET paused = true, paused_reason = coalesce(pause_schedule.reason, CASE WHEN s.paused THEN s.paused_reason END)
    WHERE s.name = pause_schedule.name;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.pause_schedule IS 'Fires a schedule no more until it is resumed; false if there is none. Who pauses what is paused and gives no reason leaves the one that is there.';

CREATE FUNCTION postrider.resume_schedule(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    UPDATE postrider.schedules s SET paused = false, paused_reason = NULL WHERE s.name = resume_schedule.name;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.resume_schedule IS 'Takes back pause_schedule; false if there is no such schedule. What fell into the pause is not made up for.';

CREATE FUNCTION postrider.run_headers(headers jsonb, name text, planned timestamptz) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(headers, '{}') || jsonb_build_object('schedule', name, 'planned', to_char(planned AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
COMMENT ON FUNCTION postrider.run_headers IS 'The headers of a message that a schedule fires.';

-- It locks nothing, so that a transaction that stays open does not keep relays from firing.
CREATE FUNCTION postrider.run_schedule(name text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    fired bigint;
BEGIN
    INSERT INTO postrider.outbox (topic, key, payload, headers, priority)
    SELECT s.topic, s.key, s.payload, postrider.run_headers(s.headers, s.name, clock_timestamp()), s.priority
    FROM postrider.schedules s WHERE s.name = run_schedule.name
    RETURNING id INTO fired;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no schedule %', quote_nullable(name) USING ERRCODE = '42704';
    END IF;
    RETURN fired;
END $$;
COMMENT ON FUNCTION postrider.run_schedule IS 'Puts a schedule''s message into the outbox now, in this transaction, also while it is paused, and returns its id. Its next run stays.';

-- All in one statement: a schedule moves on if it is as it was when this was decided, and its messages are of what it is then. What
-- another relay has locked, it fires.
CREATE FUNCTION postrider.fire_schedules(names text[], versions bigint[], was timestamptz[], next timestamptz[], troubles text[],
                                         run_of integer[], run_at timestamptz[], OUT moved bigint, OUT fired bigint)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    WITH decided AS MATERIALIZED (
        SELECT a.*, r.last_run
        FROM unnest(names, versions, was, next, troubles) WITH ORDINALITY a (name, version, was, next, trouble, n)
        LEFT JOIN (SELECT r.n, max(r.at) AS last_run FROM unnest(run_of, run_at) r (n, at) GROUP BY r.n) r USING (n)
    ), free AS MATERIALIZED (
        SELECT s.name FROM postrider.schedules s JOIN decided d ON d.name = s.name
        WHERE s.version = d.version AND s.next_run IS NOT DISTINCT FROM d.was AND NOT s.paused
        FOR UPDATE OF s SKIP LOCKED
    ), gone AS (
        UPDATE postrider.schedules s
        SET next_run = d.next, last_run = coalesce(d.last_run, s.last_run), trouble = d.trouble,
            due = CASE WHEN d.trouble IS NULL THEN d.next ELSE clock_timestamp() + interval '1 minute' END
        FROM decided d
        WHERE s.name = d.name AND d.name IN (SELECT f.name FROM free f)
          AND s.version = d.version AND s.next_run IS NOT DISTINCT FROM d.was AND NOT s.paused
        RETURNING s.name, s.topic, s.key, s.payload, s.headers, s.priority, d.n
    ), sent AS (
        INSERT INTO postrider.outbox (topic, key, payload, headers, priority)
        SELECT g.topic, g.key, g.payload, postrider.run_headers(g.headers, g.name, r.at), g.priority
        FROM gone g JOIN unnest(run_of, run_at) r (n, at) ON r.n = g.n ORDER BY r.at, g.name
        RETURNING id
    )
    SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM sent)
$$;
COMMENT ON FUNCTION postrider.fire_schedules IS 'Relays call it with what they have decided: of each schedule its version and next run as they were, the run after that, the trouble if there is any, and the runs to fire, by its place in the list. Returns how many schedules moved on, and how many messages that made.';

REVOKE ALL ON TABLE postrider.schedules FROM PUBLIC;
REVOKE ALL ON FUNCTION postrider.schedule_changes(), postrider.check_schedule(text, text, text, jsonb, text, jsonb, text, text),
    postrider.put_schedule(text, text, text, jsonb, text, jsonb, text, text, integer), postrider.remove_schedule(text), postrider.pause_schedule(text, text),
    postrider.resume_schedule(text), postrider.run_schedule(text), postrider.run_headers(jsonb, text, timestamptz),
    postrider.fire_schedules(text[], bigint[], timestamptz[], timestamptz[], text[], integer[], timestamptz[]) FROM PUBLIC;
