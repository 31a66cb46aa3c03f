SET LOCAL search_path = pg_catalog, pg_temp;

-- Attempts of workers in SQL are kept as those of relays are, in the transaction that says so: what was rolled back says nothing. Of one that has
-- not come to COMMIT, the next one that takes the message tells, and when it noticed.
CREATE FUNCTION postrider.keep_attempt(subscription text, id bigint, created_at timestamptz, attempt integer, started_at timestamptz, worker text, outcome text, reason text, due timestamptz)
    RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
#variable_conflict use_variable
BEGIN
    IF (SELECT s.settings ->> 'keep_attempts' FROM postrider.subscriptions s WHERE s.name = subscription) = 'none' THEN
        RETURN;
    END IF;
    -- Said twice in one transaction, it was one attempt all the same.
    INSERT INTO postrider.attempts (subscription, id, created_at, attempt, started_at, took, worker, outcome, reason, due)
    VALUES (subscription, id, created_at, attempt, started_at, clock_timestamp() - started_at, left(worker, 200), outcome, reason, due)
    ON CONFLICT ON CONSTRAINT attempts_pkey DO UPDATE SET took = excluded.took, outcome = excluded.outcome, reason = excluded.reason, due = excluded.due;
END $$;
COMMENT ON FUNCTION postrider.keep_attempt IS 'Keeps an attempt that was not accepted, of a subscription that workers take from in SQL, unless its keep_attempts is none.';
COMMENT ON COLUMN postrider.attempts.started_at IS 'When it began, by the relay''s clock; of a worker in SQL when its transaction did, or when it was noticed that no COMMIT had come of that.';
COMMENT ON COLUMN postrider.attempts.worker IS 'The worker that had the job when its lease was recorded; of one in SQL its role, and the name of its application.';
COMMENT ON COLUMN postrider.attempts.outcome IS 'accepted, leased, snoozed, failed, lost, retryable, permanent, unavailable or gone.';

CREATE FUNCTION postrider.no_commit(times integer) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'its worker has not come to COMMIT' || CASE WHEN times > 1 THEN ', ' || times || ' times in a row' ELSE '' END;
COMMENT ON FUNCTION postrider.no_commit IS 'The reason of attempts that ended with the connection, or by a ROLLBACK.';

CREATE OR REPLACE FUNCTION postrider.settle_otherwise(subscription text, id bigint, outcome text, reason text, after interval) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    sub    text := settle_otherwise.subscription;
    msg    bigint := settle_otherwise.id;
    s      postrider.shard_settings;
    c      postrider.shard_positions;
    p      postrider.parked;
    rest   bigint[];
    at     integer;
    leaf   integer;
    filled integer[];
    behind bigint[] := '{}';
    said   bigint[];
BEGIN
    PERFORM postrider.may_work(sub);
    IF after NOT BETWEEN '0' AND '1 year' THEN
        RAISE EXCEPTION 'after %: must be an interval from 0 to 1 year', after USING ERRCODE = '22023';
    END IF;
    SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = sub;
    SELECT * INTO c FROM postrider.taken_by_me(sub) q WHERE msg = ANY (q.batch);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'message %: this transaction has not taken it from "%"', coalesce(msg::text, 'null'), sub USING ERRCODE = '22023';
    END IF;
    at := array_position(c.batch, msg);
    rest := c.batch[at + 1:];
    filled := ARRAY(SELECT g FROM unnest(postrider.filled_segments()) g
        WHERE g IS DISTINCT FROM postrider.closing_segment() OR postrider.segment_is_mine(g));
    SELECT * INTO p FROM postrider.parked q WHERE q.subscription = sub AND q.id = msg AND q.shard = c.shard AND q.taken IS NOT DISTINCT FROM pg_current_xact_id();
    IF NOT FOUND THEN
        FOREACH leaf IN ARRAY filled LOOP
            INSERT INTO postrider.parked (subscription, shard, id, created_at, xid, state, attempts, topic, key, payload, body, headers, priority, taken)
            SELECT sub, c.shard, m.id, m.created_at, m.xid, 'completed', 1 + CASE WHEN at = 1 THEN c.deaths ELSE 0 END,
                m.topic, m.key, m.payload, m.body, m.headers, m.priority, pg_current_xact_id()
            FROM postrider.shard_messages(leaf, ARRAY[msg], NULL) m
            -- Ids may come again: it is the newest that is none of the exceptions.
            WHERE NOT EXISTS (SELECT FROM postrider.parked q WHERE q.subscription = sub AND q.id = m.id AND q.created_at = m.created_at)
            ORDER BY m.created_at DESC LIMIT 1
            RETURNING * INTO p;
            EXIT WHEN p.id IS NOT NULL;
        END LOOP;
        IF p.id IS NULL THEN
            RAISE EXCEPTION 'message % of "%" is not there any more', msg, sub USING ERRCODE = '55000';
        END IF;
    END IF;
    IF p.state = 'held' THEN
        RETURN '{}'; -- one before it has failed, and it waits: it was to be skipped
    END IF;
    -- Said twice, it was one attempt all the same.
    p.attempts := p.attempts - CASE WHEN outcome = 'later' AND p.state = 'completed' THEN 1 ELSE 0 END;
    p.state := CASE WHEN outcome = 'dead' OR outcome = 'retry' AND p.attempts >= s.max_attempts THEN 'dead' ELSE 'retrying' END;
    p.due := CASE WHEN p.state = 'retrying' THEN clock_timestamp() + coalesce(after, postrider.next_wait(s, p.attempts)) END;
    p.reason := postrider.clean_reason(reason, CASE outcome WHEN 'later' THEN 'put off by its worker' ELSE 'failed' END);
    UPDATE postrider.parked q SET state = p.state, attempts = p.attempts, due = p.due, reason = p.reason, updated_at = clock_timestamp()
    WHERE q.subscription = sub AND q.id = p.id AND q.created_at = p.created_at;
    IF outcome <> 'later' OR after > '0' THEN -- what is only given back was no attempt
        PERFORM postrider.keep_attempt(sub, p.id, p.created_at, p.attempts + CASE outcome WHEN 'later' THEN 1 ELSE 0 END, transaction_timestamp(),
            concat_ws(' ', session_user, nullif(current_setting('application_name'), '')),
            CASE outcome WHEN 'later' THEN 'snoozed' WHEN 'dead' THEN 'permanent' ELSE 'failed' END, p.reason, p.due);
    END IF;
    -- The rest of its key waits: by place in the batch, not by id, since what was late comes after retries.
    IF p.key IS NOT NULL AND rest <> '{}' AND (p.state = 'retrying' OR s.holds) THEN
        WITH held AS (
            UPDATE postrider.parked q SET state = 'held', due = NULL, attempts = greatest(q.attempts - CASE WHEN q.state = 'completed' THEN 1 ELSE 0 END, 0), updated_at = clock_timestamp()
            WHERE q.subscription = sub AND q.id = ANY (rest) AND q.shard = c.shard AND q.key = p.key AND q.taken = pg_current_xact_id()
            RETURNING q.id)
        SELECT coalesce(array_agg(held.id), '{}') INTO behind FROM held;
        FOREACH leaf IN ARRAY filled LOOP
            WITH held AS (
                INSERT INTO postrider.parked (subscription, shard, id, created_at, xid, state, topic, key, payload, body, headers, priority, taken)
                SELECT DISTINCT ON (m.id) sub, c.shard, m.id, m.created_at, m.xid, 'held', m.topic, m.key, m.payload, m.body, m.headers, m.priority, pg_current_xact_id()
                FROM postrider.shard_messages(leaf, rest, p.key) m
                WHERE m.id <> ALL (behind) AND NOT EXISTS (SELECT FROM postrider.parked q WHERE q.subscription = sub AND q.id = m.id AND q.created_at = m.created_at)
                ORDER BY m.id, m.created_at DESC
                RETURNING id)
            SELECT coalesce(array_agg(held.id), '{}') INTO said FROM held;
            behind := behind || said;
        END LOOP;
    END IF;
    -- Among the rest there may be one that is before it all the same.
    PERFORM postrider.release_key(s, p.key);
    IF NOT c.parked THEN
        c.parked := true;
        PERFORM postrider.save_position(c);
    END IF;
    RETURN behind;
END $$;
COMMENT ON FUNCTION postrider.settle_otherwise IS 'What becomes of a message that the calling transaction has taken, if it is not simply settled. Returns the ids of those behind it that wait for it now.';

CREATE OR REPLACE FUNCTION postrider.take_thoroughly(subscription text, max integer, time_limit interval, likely smallint)
    RETURNS TABLE (id bigint, topic text, key text, payload jsonb, body bytea, headers jsonb, created_at timestamptz, priority smallint, attempt integer)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
#variable_conflict use_column
DECLARE
    sub     text := take_thoroughly.subscription;
    most    integer := take_thoroughly.max;
    -- Once: a retry that becomes due while rows are compared would let what follows it pass.
    moment  timestamptz := clock_timestamp();
    s       postrider.shard_settings;
    h       postrider.shards;
    c       postrider.shard_positions;
    floor   postrider.shard_positions;
    tried   smallint[] := '{}';
    got     integer;
    n       bigint;
    r       record;
    f       record;
    prior   integer; -- how often a worker has died of the message that it comes to first
    suspect bigint;
    room    integer;
    reach   bigint;
    fetched integer;
    fresh   boolean;
    cap     integer;
    passed  integer;
    at      smallint;
    setting text;
    bound   text;
    going   boolean;
    exceptions boolean;
    why     text;
BEGIN
    IF most IS NULL OR most NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'max %: must be from 1 to 1000', coalesce(most::text, 'null') USING ERRCODE = '22023';
    ELSIF time_limit IS NULL OR time_limit NOT BETWEEN '100 milliseconds' AND '1 day' THEN
        RAISE EXCEPTION 'time_limit %: must be an interval from 100 milliseconds to 1 day', coalesce(time_limit::text, 'null') USING ERRCODE = '22023';
    ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'take needs a READ COMMITTED transaction, not %', upper(current_setting('transaction_isolation')) USING ERRCODE = '25001',
            HINT = 'A snapshot that is older than the lock on a shard does not show what its last worker has done.';
    END IF;
    SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = sub AND (pg_has_role(session_user, current_user, 'USAGE') OR EXISTS (
        SELECT FROM postrider.shard_workers w WHERE w.subscription = sub AND pg_has_role(session_user, to_regrole(quote_ident(w.role))::oid, 'USAGE')));
    IF NOT FOUND THEN
        PERFORM postrider.may_work(sub); -- says why not
    END IF;
    -- Bounds what is left of the transaction, unless it is bounded already: a worker that hangs holds its shard until its session ends.
    FOREACH setting IN ARRAY '{statement_timeout,idle_in_transaction_session_timeout,transaction_timeout}'::text[] LOOP
        bound := current_setting(setting, true); -- the last one is PostgreSQL 17's
        IF bound = '0' OR bound::interval > time_limit THEN
            PERFORM set_config(setting, ceil(extract(epoch FROM time_limit) * 1000)::bigint::text, true);
        END IF;
    END LOOP;
    FOR round IN CASE WHEN likely = 0 THEN 3 ELSE 1 END..3 LOOP
    FOR turn IN 1..s.shards LOOP
        IF round = 1 THEN -- by chance: where there is much to do, it is enough
            at := coalesce(likely, (1 + floor(random() * s.shards))::smallint);
            likely := NULL;
            SELECT p.target IS NOT NULL, p.parked INTO going, exceptions FROM postrider.shard_positions p
            WHERE p.subscription = sub AND p.shard = at ORDER BY p.seq DESC LIMIT 1;
            EXIT WHEN at = ANY (tried) OR NOT going AND NOT (exceptions AND postrider.has_due(sub, at, moment));
            SELECT * INTO h FROM postrider.shards q WHERE q.subscription = sub AND q.shard = at FOR NO KEY UPDATE SKIP LOCKED;
        ELSE
            h := postrider.lock_shard(s, moment, round, tried);
        END IF;
        EXIT WHEN h.shard IS NULL;
        tried := tried || h.shard;
        -- New statements: they see what the last one who held the lock has committed.
        SELECT * INTO c FROM postrider.shard_positions p WHERE p.subscription = sub AND p.shard = h.shard ORDER BY p.seq DESC LIMIT 1;
        IF c.version IS DISTINCT FROM s.version THEN -- each change of a subscription rewrites the positions, under the locks of all its shards
            SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = sub;
        END IF;
        IF NOT coalesce(s.active, false) OR c.shard IS NULL THEN
            RETURN;
        END IF;
        IF c.taker <> pg_current_xact_id() THEN
            c.batch := '{}';
            c.deaths := 0;
            c.mark_before := coalesce(pg_sequence_last_value(h.tries), 0);
            IF c.mark_before <> c.mark THEN -- who took from here has not come to COMMIT
                suspect := c.mark_before & 137438953471;
                prior := c.mark_before >> 47 & 255;
                c.wary := c.mark_before >> 37 & 1023;
                PERFORM postrider.note_event('worker_lost', sub, 'no COMMIT came of its transaction', jsonb_build_object('times', greatest(prior, 1),
                    'jobs', CASE WHEN prior > 0 THEN 1 ELSE greatest(c.wary, 1) END, 'reason', 'no COMMIT came of its transaction'));
            END IF;
        END IF;
        prior := coalesce(prior, 0);
        IF c.wary > 0 THEN
            most := 1;
        END IF;
        IF c.target IS NULL THEN
            SELECT * INTO floor FROM postrider.shard_positions p WHERE p.subscription = sub AND p.shard = 0 ORDER BY p.seq DESC LIMIT 1;
            IF floor.version = s.version AND pg_snapshot_xmax(c.base) < pg_snapshot_xmax(floor.base) THEN
                c.base := floor.base;
            END IF;
        END IF;
        got := 0; fresh := false; passed := 0; cap := NULL;

        -- Exceptions first. All that concerns a key happens under its shard's lock.
        IF c.parked THEN
            IF cardinality(c.batch) = 0 THEN
                DELETE FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0 AND p.state = 'completed';
            END IF;
            LOOP
                fetched := 0;
                FOR r IN SELECT * FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0
                        AND p.state IN ('retrying', 'held', 'scheduled') AND p.due <= moment ORDER BY p.due, p.id LIMIT most - got LOOP
                    CONTINUE WHEN r.id = ANY (c.batch);
                    fetched := fetched + 1;
                    IF r.key IS NOT NULL AND EXISTS (SELECT FROM postrider.parked b WHERE b.subscription = sub AND b.key = r.key AND b.shard > 0
                            AND (b.id, b.created_at) < (r.id, r.created_at) AND b.state IN ('retrying', 'held', 'dead') AND (b.state <> 'dead' OR s.holds)) THEN
                        -- It waits for what is before it, which brings it forward.
                        UPDATE postrider.parked p SET state = 'held', due = NULL WHERE p.subscription = sub AND p.id = r.id AND p.created_at = r.created_at;
                        PERFORM postrider.release_key(s, r.key);
                        CONTINUE;
                    END IF;
                    -- It, and what is behind it.
                    FOR f IN SELECT p.* FROM postrider.parked p WHERE p.subscription = sub AND p.id = r.id AND p.created_at = r.created_at
                             UNION ALL
                             (SELECT p.* FROM postrider.parked p WHERE p.subscription = sub AND p.key = r.key AND p.shard > 0
                                AND (p.id, p.created_at) > (r.id, r.created_at) AND p.state IN ('retrying', 'held', 'dead') AND (p.state <> 'dead' OR s.holds)
                              ORDER BY p.id, p.created_at LIMIT most - got) LOOP
                        EXIT WHEN f.state = 'dead' OR f.state = 'retrying' AND f.due > moment OR f.id = ANY (c.batch);
                        IF got >= most THEN
                            UPDATE postrider.parked p SET due = '-infinity' WHERE p.subscription = sub AND p.id = f.id AND p.created_at = f.created_at;
                            EXIT;
                        END IF;
                        IF cardinality(c.batch) = 0 THEN
                            prior := CASE WHEN f.id & 137438953471 = suspect THEN prior ELSE 0 END;
                            IF prior > 0 THEN
                                PERFORM postrider.keep_attempt(sub, f.id, f.created_at, f.attempts + prior, moment, NULL, 'lost', postrider.no_commit(prior), NULL);
                                why := coalesce(postrider.unreadable(f.payload, f.body, f.headers),
                                    CASE WHEN f.attempts + prior >= s.max_attempts THEN 'no worker has come to COMMIT with it' END);
                            END IF;
                            IF prior > 0 AND why IS NOT NULL THEN
                                UPDATE postrider.parked p SET state = 'dead', due = NULL, attempts = f.attempts + prior, updated_at = clock_timestamp(), reason = why
                                WHERE p.subscription = sub AND p.id = f.id AND p.created_at = f.created_at;
                                suspect := NULL; passed := passed + 1;
                                PERFORM postrider.release_key(s, f.key);
                                EXIT;
                            END IF;
                            c.deaths := prior;
                        END IF;
                        got := got + 1; c.batch := c.batch || f.id;
                        id := f.id; topic := f.topic; key := f.key; payload := f.payload; body := f.body; headers := f.headers; created_at := f.created_at;
                        priority := f.priority; attempt := f.attempts + 1 + CASE WHEN cardinality(c.batch) = 1 THEN c.deaths ELSE 0 END;
                        -- Kept until COMMIT and beyond, for who says what is wrong with it needs its attempts.
                        UPDATE postrider.parked p SET state = 'completed', attempts = take_thoroughly.attempt, due = NULL, taken = pg_current_xact_id(), updated_at = clock_timestamp()
                        WHERE p.subscription = sub AND p.id = f.id AND p.created_at = f.created_at;
                        RETURN NEXT;
                    END LOOP;
                    EXIT WHEN got >= most;
                END LOOP;
                EXIT WHEN got >= most OR fetched = 0;
            END LOOP;
            c.parked := EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0
                                AND p.state IN ('retrying', 'held', 'scheduled'))
                     OR EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0 AND p.state = 'completed')
                     OR s.holds AND EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.state = 'dead');
        END IF;

        -- Then the log.
        LOOP
            EXIT WHEN got >= most OR passed > 1000;
            IF c.target IS NULL THEN
                EXIT WHEN fresh; -- one new window a call
                fresh := true;
                c := postrider.begin_pass(c);
                EXIT WHEN c.target IS NULL;
            END IF;
            -- Segments that the pass has come to are read together, up to where the next one begins.
            reach := 9223372036854775806;
            FOR i IN 1..cardinality(c.leaves) BY 4 LOOP
                IF c.leaves[i + 1] > c.after_id + 1 THEN
                    reach := least(reach, c.leaves[i + 1] - 1);
                END IF;
            END LOOP;
            room := most - got + CASE WHEN c.parked THEN 20 ELSE 0 END;
            fetched := 0;
            <<page>>
            FOR r IN SELECT p.* FROM generate_series(1, cardinality(c.leaves), 4) i
                    CROSS JOIN LATERAL postrider.shard_page(c.leaves[i], c.leaves[i + 3], c, s, least(reach, c.leaves[i + 2]), room) p
                    WHERE c.leaves[i + 1] <= reach AND c.leaves[i + 2] > c.after_id
                    ORDER BY p.id, p.created_at FETCH FIRST (room) ROWS WITH TIES LOOP
                EXIT WHEN got >= most AND r.id <> c.after_id;
                fetched := fetched + 1;
                IF c.again AND EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.id = r.id AND p.created_at = r.created_at) THEN
                    c.after_id := r.id; -- it stays what it is
                    CONTINUE;
                END IF;
                IF r.deliver_at > moment OR r.id = ANY (c.batch) OR c.parked AND r.key IS NOT NULL AND EXISTS (
                        SELECT FROM postrider.parked b WHERE b.subscription = sub AND b.key = r.key AND b.shard > 0
                            AND (b.id, b.created_at) < (r.id, r.created_at) AND b.state IN ('retrying', 'held', 'dead') AND (b.state <> 'dead' OR s.holds)) THEN
                    IF cap IS NULL THEN
                        SELECT CASE WHEN r.deliver_at > moment THEN s.max_scheduled ELSE s.max_parked END - count(*) INTO cap
                        FROM (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0
                                AND p.state IN ('retrying', 'held', 'scheduled') LIMIT s.max_parked + s.max_scheduled) q;
                    END IF;
                    IF cap <= 0 THEN
                        passed := 1001; -- full: it stays in the log, and so does what is behind it
                        EXIT page;
                    END IF;
                    cap := cap - 1; passed := passed + 1; c.parked := true; c.after_id := r.id;
                    why := postrider.unreadable(r.payload, r.body, r.headers);
                    IF why IS NOT NULL THEN
                        r.payload := NULL; r.body := NULL; r.headers := NULL;
                        PERFORM postrider.shard_parks(c, r, 'dead', NULL, 0, why);
                        CONTINUE;
                    END IF;
                    PERFORM postrider.shard_parks(c, r, CASE WHEN r.deliver_at > moment THEN 'scheduled' ELSE 'held' END,
                        CASE WHEN r.deliver_at > moment THEN r.deliver_at WHEN r.id = ANY (c.batch) THEN '-infinity' END);
                    CONTINUE;
                END IF;
                IF cardinality(c.batch) = 0 THEN
                    prior := CASE WHEN r.id & 137438953471 = suspect THEN prior ELSE 0 END;
                    IF prior > 0 THEN
                        PERFORM postrider.keep_attempt(sub, r.id, r.created_at, prior, moment, NULL, 'lost', postrider.no_commit(prior), NULL);
                        why := postrider.unreadable(r.payload, r.body, r.headers);
                        IF why IS NOT NULL THEN
                            r.payload := NULL; r.body := NULL; r.headers := NULL;
                        ELSIF prior >= s.max_attempts THEN
                            why := 'no worker has come to COMMIT with it';
                        END IF;
                        IF why IS NOT NULL THEN
                            c.after_id := r.id; c.parked := true; suspect := NULL; passed := passed + 1;
                            PERFORM postrider.shard_parks(c, r, 'dead', NULL, prior, why);
                            CONTINUE;
                        END IF;
                    END IF;
                    c.deaths := prior;
                END IF;
                c.after_id := r.id;
                got := got + 1; c.batch := c.batch || r.id;
                id := r.id; topic := r.topic; key := r.key; payload := r.payload; body := r.body; headers := r.headers; created_at := r.created_at;
                priority := r.priority; attempt := 1 + CASE WHEN cardinality(c.batch) = 1 THEN c.deaths ELSE 0 END;
                RETURN NEXT;
            END LOOP;
            IF fetched < room AND got < most AND passed <= 1000 THEN
                IF reach < 9223372036854775806 THEN
                    c.after_id := reach;
                ELSE
                    c := postrider.end_pass(c);
                END IF;
            END IF;
        END LOOP;

        IF c.leaves[3] <= c.after_id THEN -- what is left comes first
            c.leaves := ARRAY(SELECT c.leaves[i + j] FROM generate_series(1, cardinality(c.leaves), 4) i, generate_series(0, 3) j WHERE c.leaves[i + 2] > c.after_id ORDER BY i, j);
        END IF;
        c.wary := greatest(c.wary - greatest(got + passed, 1), 0);
        IF got > 0 THEN
            c.mark := setval(h.tries, postrider.pack_mark((c.mark_before >> 55) + 1, CASE WHEN cardinality(c.batch) = 1 THEN c.deaths + 1 ELSE 0 END,
                greatest(cardinality(c.batch), c.wary + 1), c.batch[1]));
        ELSE
            c.mark := c.mark_before;
        END IF;
        -- The DELETE is what tells transactions with an older snapshot that they are too late.
        DELETE FROM postrider.shard_positions p WHERE p.subscription = sub AND p.shard = h.shard AND p.seq = c.seq;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'shard % of "%" has moved', h.shard, sub USING ERRCODE = '40001';
        END IF;
        INSERT INTO postrider.shard_positions VALUES (sub, h.shard, c.seq + 1, s.version, c.base, c.target, c.after_id, c.leaves, c.done, c.done_before,
            c.again, c.parked, pg_current_xact_id(), c.batch, c.deaths, c.wary, c.mark, c.mark_before, clock_timestamp());
        IF got > 0 THEN
            RETURN;
        END IF;
    END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.take_thoroughly IS 'postrider.take, whatever there is to do: from the shard that is likely to have something, or any other; 0: all are looked at.';
