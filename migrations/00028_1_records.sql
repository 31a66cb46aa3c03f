SET LOCAL search_path = pg_catalog, pg_temp;

-- What is worth telling of a delivery beside that it was made: what came of the work, and which attempts did not succeed. Most deliveries have
-- neither. Rings of segments like the outbox, filled by the same clock: rows are never updated in the usual course, and segments are emptied.
CREATE TABLE postrider.results (
    subscription text        NOT NULL,
    id           bigint      NOT NULL,
    created_at   timestamptz NOT NULL,
    kept_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    segment      smallint    NOT NULL DEFAULT postrider.current_segment(),
    result       json        NOT NULL,
    PRIMARY KEY (id, subscription, created_at, segment)
) PARTITION BY LIST (segment);
COMMENT ON TABLE postrider.results IS 'What came of messages, where a worker or an endpoint has said it; kept for the retention.';
COMMENT ON COLUMN postrider.results.subscription IS 'Whose delivery it was.';
COMMENT ON COLUMN postrider.results.id IS 'The message''s id.';
COMMENT ON COLUMN postrider.results.created_at IS 'The message''s creation: ids may come again.';
COMMENT ON COLUMN postrider.results.kept_at IS 'When it was written.';
COMMENT ON COLUMN postrider.results.segment IS 'Where in the ring the row is.';
COMMENT ON COLUMN postrider.results.result IS 'The result, as it came: at most 64 KiB.';

CREATE TABLE postrider.attempts (
    subscription text        NOT NULL,
    id           bigint      NOT NULL,
    created_at   timestamptz NOT NULL,
    attempt      integer     NOT NULL,
    started_at   timestamptz NOT NULL,
    took         interval    NOT NULL,
    relay        text,
    worker       text,
    outcome      text        NOT NULL,
    reason       text,
    due          timestamptz,
    segment      smallint    NOT NULL DEFAULT postrider.current_segment(),
    PRIMARY KEY (id, subscription, started_at, segment)
) PARTITION BY LIST (segment);
COMMENT ON TABLE postrider.attempts IS 'Attempts that were not accepted, and of subscriptions that ask for it all; kept for the retention.';
COMMENT ON COLUMN postrider.attempts.subscription IS 'Whose delivery it was.';
COMMENT ON COLUMN postrider.attempts.id IS 'The message''s id.';
COMMENT ON COLUMN postrider.attempts.created_at IS 'The message''s creation: ids may come again.';
COMMENT ON COLUMN postrider.attempts.attempt IS 'The how-manieth attempt it was, from 1.';
COMMENT ON COLUMN postrider.attempts.started_at IS 'When it began, by the relay''s clock.';
COMMENT ON COLUMN postrider.attempts.took IS 'How long it took.';
COMMENT ON COLUMN postrider.attempts.relay IS 'The name of the relay that made it.';
COMMENT ON COLUMN postrider.attempts.worker IS 'The worker that had the job when its lease was recorded.';
COMMENT ON COLUMN postrider.attempts.outcome IS 'accepted, leased, failed, lost, retryable, permanent, unavailable or gone.';
COMMENT ON COLUMN postrider.attempts.reason IS 'What was wrong.';
COMMENT ON COLUMN postrider.attempts.due IS 'When the next attempt was due; null: there was to be none, or none was planned yet.';
COMMENT ON COLUMN postrider.attempts.segment IS 'Where in the ring the row is.';

DO $$
BEGIN
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE postrider.results_%s PARTITION OF postrider.results FOR VALUES IN (%1$s) WITH (autovacuum_vacuum_insert_threshold = -1)', i);
        EXECUTE format('COMMENT ON TABLE postrider.results_%s IS ''Segment %1$s of the ring.''', i);
        EXECUTE format('CREATE TABLE postrider.attempts_%s PARTITION OF postrider.attempts FOR VALUES IN (%1$s) WITH (autovacuum_vacuum_insert_threshold = -1)', i);
        EXECUTE format('COMMENT ON TABLE postrider.attempts_%s IS ''Segment %1$s of the ring.''', i);
    END LOOP;
END $$;

-- Nobody waits for this: a leaf that is locked is emptied another time. What an unusual clock or another length of segments has put into a leaf is
-- looked at row by row.
CREATE FUNCTION postrider.empty_records(retention interval) RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    length  bigint := (SELECT s.segment_seconds FROM postrider.source s);
    here    bigint := floor(extract(epoch FROM clock_timestamp()) / length)::bigint;
    turns   bigint;
    ring    text;
    leaf    text;
    found   boolean;
    emptied integer := 0;
BEGIN
    IF retention IS NULL OR retention < '0' THEN
        RAISE EXCEPTION 'retention %: must be an interval that is not negative', coalesce(retention::text, 'null') USING ERRCODE = '22023';
    END IF;
    FOR segment IN 0..15 LOOP
        turns := (here - segment) & 15;
        CONTINUE WHEN turns IN (0, 15) OR to_timestamp((here - turns + 1) * length) + retention > clock_timestamp();
        FOREACH ring IN ARRAY '{results,attempts}'::text[] LOOP
            leaf := format('postrider.%I', ring || '_' || segment);
            BEGIN
                EXECUTE format('SELECT EXISTS (SELECT FROM %s)', leaf) INTO found;
                CONTINUE WHEN NOT found;
                EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', leaf);
                EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I > clock_timestamp() - $1)', leaf,
                    CASE ring WHEN 'results' THEN 'kept_at' ELSE 'started_at' END) INTO found USING retention;
                CONTINUE WHEN found;
                EXECUTE format('TRUNCATE TABLE ONLY %s', leaf);
                emptied := emptied + 1;
            EXCEPTION WHEN lock_not_available THEN
                NULL; -- somebody reads it
            END;
        END LOOP;
    END LOOP;
    RETURN emptied;
END $$;
COMMENT ON FUNCTION postrider.empty_records IS 'Empties segments of results and attempts that are past the retention. Relays call it. Returns how many.';

-- A function that is not inlined, so that the planner takes a look at one message for what it costs: with all leaves of a ring for each row, it would
-- compile the query first.
CREATE FUNCTION postrider.result_of(subscription text, id bigint, created_at timestamptz) RETURNS json
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
    SELECT r.result FROM postrider.results r
    WHERE r.id = result_of.id AND r.subscription = result_of.subscription AND r.created_at = result_of.created_at ORDER BY r.kept_at DESC LIMIT 1
$$;
COMMENT ON FUNCTION postrider.result_of IS 'What came of a message, for one subscription: the newest result; null if there is none.';

DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW postrider.deliveries AS SELECT d.*, postrider.result_of(d.subscription, d.id, d.created_at) AS result FROM ('
        || rtrim(pg_get_viewdef('postrider.deliveries'::regclass), ';') || ') d';
END $$;
COMMENT ON COLUMN postrider.deliveries.result IS 'What came of it, where a worker or an endpoint has said so.';

-- For whoever may call it: it shows what came of any message, and nothing that a message carries. jit = off: the planner takes empty partitions for
-- large ones, and a compilation would take longer than all the rest.
CREATE FUNCTION postrider.deliveries_of(id bigint, subscription text DEFAULT NULL)
    RETURNS TABLE (of_subscription text, status text, topic text, key text, created_at timestamptz, attempts integer, due timestamptz, reason text, result json)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off AS $$
    SELECT d.subscription, d.status, d.topic, d.key, d.created_at, d.attempts, d.due, d.reason, d.result
    FROM postrider.deliveries d WHERE d.id = deliveries_of.id AND (deliveries_of.subscription IS NULL OR d.subscription = deliveries_of.subscription)
    ORDER BY d.created_at DESC, d.subscription
$$;
COMMENT ON FUNCTION postrider.deliveries_of IS 'Where a message stands for each subscription, or for one, and what came of it; ids that came again with the newest first. No row: nobody wants it, or it is not in the log any more.';

CREATE FUNCTION postrider.check_result(result json) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF result IS NULL OR octet_length(result::text) > 65536 THEN
        RAISE EXCEPTION 'result: has % bytes: must be JSON of at most 65536', coalesce(octet_length(result::text), 0) USING ERRCODE = 'program_limit_exceeded',
            HINT = 'Keep the data elsewhere and put a reference into the result.';
    END IF;
END $$;
COMMENT ON FUNCTION postrider.check_result IS 'Raises an error if a result is too large.';

-- For the worker that has taken the message in the same transaction, which knows its creation from take: looking for it would keep segments from
-- being emptied until COMMIT.
CREATE FUNCTION postrider.keep_result(subscription text, id bigint, created_at timestamptz, result json) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
#variable_conflict use_variable
BEGIN
    PERFORM postrider.may_work(subscription);
    PERFORM postrider.check_result(result);
    IF created_at IS NULL OR NOT EXISTS (SELECT FROM postrider.taken_by_me(subscription) q WHERE id = ANY (q.batch)) THEN
        RAISE EXCEPTION 'message %: this transaction has not taken it from "%"', coalesce(id::text, 'null'), subscription USING ERRCODE = '22023';
    END IF;
    INSERT INTO postrider.results (subscription, id, created_at, result) VALUES (subscription, id, created_at, result)
    ON CONFLICT ON CONSTRAINT results_pkey DO UPDATE SET result = excluded.result, kept_at = excluded.kept_at;
END $$;
COMMENT ON FUNCTION postrider.keep_result IS 'What came of a message that the calling transaction has taken: kept with the rest of what it does.';

-- For the receiver that was given a lease.
CREATE FUNCTION postrider.complete(subscription text, id bigint, token bigint, result json) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
#variable_conflict use_variable
DECLARE
    born timestamptz;
BEGIN
    PERFORM postrider.check_result(result);
    IF NOT postrider.complete(subscription, id, token) THEN
        RETURN false;
    END IF;
    SELECT p.created_at INTO STRICT born FROM postrider.parked p
    WHERE p.subscription = complete.subscription AND p.id = complete.id AND p.token = complete.token;
    INSERT INTO postrider.results (subscription, id, created_at, result) VALUES (subscription, id, born, result)
    ON CONFLICT ON CONSTRAINT results_pkey DO UPDATE SET result = excluded.result, kept_at = excluded.kept_at;
    RETURN true;
END $$;
COMMENT ON FUNCTION postrider.complete(text, bigint, bigint, json) IS 'As complete, with a result that is kept.';
