SET LOCAL search_path = pg_catalog, pg_temp;

-- What a worker says of a message that it has taken, in the transaction that has taken it. COMMIT makes it so, with all the rest.

-- As postrider.fail does: what does not show, and changes what does.
CREATE FUNCTION postrider.clean_reason(reason text, standard text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    unprintable CONSTANT text := CASE getdatabaseencoding()
        WHEN 'UTF8' THEN E'[\\u0001-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\U000e0001-\\U000e007f]'
        WHEN 'LATIN1' THEN E'[\\u0001-\\u001f\\u007f-\\u009f\\u00ad]'
        ELSE E'[\\u0001-\\u001f\\u007f]' END;
BEGIN
    RETURN coalesce(nullif(btrim(regexp_replace(left(reason, 1000), unprintable, ' ', 'g')), ''), standard);
END $$;
COMMENT ON FUNCTION postrider.clean_reason IS 'A reason as it may be shown, the standard one if there is none.';

-- With jitter, so that what failed together does not come back together.
CREATE FUNCTION postrider.next_wait(s postrider.shard_settings, attempts integer) RETURNS interval
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    k integer := least(greatest(attempts, 1), cardinality(s.waits));
BEGIN
    RETURN make_interval(secs => least(extract(epoch FROM s.longest_wait)::double precision,
        extract(epoch FROM s.waits[k])::double precision * 2.0 ^ least(greatest(attempts, 1) - k, 60)) * (0.8 + 0.4 * random()));
END $$;
COMMENT ON FUNCTION postrider.next_wait IS 'The wait before the next attempt after so many.';

CREATE FUNCTION postrider.taken_by_me(subscription text, OUT c postrider.shard_positions) RETURNS SETOF postrider.shard_positions
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = off SET jit = off AS $$
    SELECT p.* FROM postrider.shard_settings t CROSS JOIN generate_series(1, t.shards) g (shard) CROSS JOIN LATERAL (
        SELECT k.* FROM postrider.shard_positions k WHERE k.subscription = t.subscription AND k.shard = g.shard::smallint ORDER BY k.seq DESC LIMIT 1) p
    WHERE t.subscription = $1 AND p.taker = pg_current_xact_id_if_assigned() AND p.batch <> '{}'
$$;
COMMENT ON FUNCTION postrider.taken_by_me IS 'The shards that the calling transaction has taken messages from.';

CREATE FUNCTION postrider.save_position(c postrider.shard_positions) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = off SET jit = off AS $$
BEGIN
    DELETE FROM postrider.shard_positions p WHERE p.subscription = c.subscription AND p.shard = c.shard AND p.seq = c.seq;
    c.seq := c.seq + 1;
    c.saved_at := clock_timestamp();
    INSERT INTO postrider.shard_positions VALUES (c.*);
END $$;
COMMENT ON FUNCTION postrider.save_position IS 'Writes a shard''s next row in place of the one that it was read from.';

-- What a transaction has taken it has locked the segment of.
CREATE FUNCTION postrider.segment_is_mine(segment integer) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.relation = ('postrider.outbox_' || segment)::regclass
                   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()));
END $$;
COMMENT ON FUNCTION postrider.segment_is_mine IS 'Whether the calling transaction has a lock on a segment.';

CREATE FUNCTION postrider.settle_otherwise(subscription text, id bigint, outcome text, reason text, after interval) RETURNS bigint[]
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

CREATE FUNCTION postrider.retry(subscription text, id bigint, reason text DEFAULT NULL, after interval DEFAULT NULL) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN postrider.settle_otherwise(subscription, id, 'retry', reason, after);
END $$;
COMMENT ON FUNCTION postrider.retry IS 'A message that this transaction has taken has failed: it is tried again after the subscription''s backoff, or after the time that is given, until its attempts are used up. Returns the ids of the messages behind it in its key: they wait for it, and the worker skips them.';

CREATE FUNCTION postrider.kill(subscription text, id bigint, reason text DEFAULT NULL) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN postrider.settle_otherwise(subscription, id, 'dead', reason, NULL);
END $$;
COMMENT ON FUNCTION postrider.kill IS 'A message that this transaction has taken can never work: it becomes a dead letter. Returns the ids of the messages behind it in its key that wait for it, if on_dead is hold.';

CREATE FUNCTION postrider.snooze(subscription text, id bigint, after interval, reason text DEFAULT NULL) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF after IS NULL THEN
        RAISE EXCEPTION 'after null: must be an interval from 0 to 1 year' USING ERRCODE = '22023';
    END IF;
    RETURN postrider.settle_otherwise(subscription, id, 'later', reason, after);
END $$;
COMMENT ON FUNCTION postrider.snooze IS 'A message that this transaction has taken is to come again later, which counts as no attempt. Its key waits: returns the ids of those behind it.';

CREATE FUNCTION postrider.give_back(subscription text, id bigint) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN postrider.settle_otherwise(subscription, id, 'later', 'given back by its worker', '0');
END $$;
COMMENT ON FUNCTION postrider.give_back IS 'A message that this transaction has taken goes to another worker at once, which counts as no attempt. Returns the ids of those behind it in its key.';

CREATE FUNCTION postrider.uncount(subscription text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    c postrider.shard_positions;
BEGIN
    PERFORM postrider.may_work(subscription);
    FOR c IN SELECT * FROM postrider.taken_by_me(uncount.subscription) LOOP
        PERFORM setval(h.tries, c.mark_before) FROM postrider.shards h WHERE h.subscription = c.subscription AND h.shard = c.shard;
        c.mark := c.mark_before;
        PERFORM postrider.save_position(c);
    END LOOP;
    RETURN c.shard IS NOT NULL;
END $$;
COMMENT ON FUNCTION postrider.uncount IS 'The ROLLBACK that follows is meant: what this transaction has taken from the subscription goes back without an attempt. False if it has taken nothing.';
