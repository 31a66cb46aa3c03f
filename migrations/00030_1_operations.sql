SET LOCAL search_path = pg_catalog, pg_temp;

-- What is done to thousands of messages is done in chunks: each is a transaction that saves how far it has come, and relays work them off, whichever
-- has the time. Nobody owns an operation; who works on a chunk has its row locked.
CREATE TABLE postrider.operations (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('redrive', 'discard', 'cancel')),
    subscription  text NOT NULL,
    topic         text,
    key           text,
    failure       text,
    since         timestamptz,
    until         timestamptz,
    reason        text,
    state         text NOT NULL DEFAULT 'waiting' CONSTRAINT state_is_known CHECK (state IN ('waiting', 'running', 'done', 'cancelled', 'failed')),
    asked_by      text NOT NULL DEFAULT session_user,
    asked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    as_of         pg_snapshot NOT NULL,
    expected      bigint,
    expected_more boolean,
    looked        bigint NOT NULL DEFAULT 0,
    changed       bigint NOT NULL DEFAULT 0,
    refused       bigint NOT NULL DEFAULT 0,
    trouble       text,
    in_log        boolean NOT NULL,
    up_to         bigint NOT NULL,
    after_id      bigint NOT NULL DEFAULT -9223372036854775808,
    after_segment smallint NOT NULL DEFAULT -1,
    after_created timestamptz NOT NULL DEFAULT '-infinity',
    relay         text,
    due           timestamptz NOT NULL DEFAULT clock_timestamp(),
    worked_at     timestamptz,
    finished_at   timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE postrider.operations IS 'What is to be done, or was done lately, to many messages of a subscription: see postrider.start_operation.';
COMMENT ON COLUMN postrider.operations.id IS 'Its number.';
COMMENT ON COLUMN postrider.operations.kind IS 'redrive: dead letters are tried again. discard: dead letters are given up for good. cancel: messages that are not settled are not wanted any more.';
COMMENT ON COLUMN postrider.operations.subscription IS 'Whose deliveries.';
COMMENT ON COLUMN postrider.operations.topic IS 'Of messages whose topic this pattern matches.';
COMMENT ON COLUMN postrider.operations.key IS 'Of messages with this key.';
COMMENT ON COLUMN postrider.operations.failure IS 'Of messages whose last error contains this text, in upper or lower case; * stands for anything.';
COMMENT ON COLUMN postrider.operations.since IS 'Of messages that were created then or later.';
COMMENT ON COLUMN postrider.operations.until IS 'Of messages that were created before.';
COMMENT ON COLUMN postrider.operations.reason IS 'Why messages are cancelled; shown with them.';
COMMENT ON COLUMN postrider.operations.state IS 'waiting: nothing was done yet. running. done. cancelled: what was done stays. failed: it cannot go on, trouble says why.';
COMMENT ON COLUMN postrider.operations.asked_by IS 'The role that asked for it.';
COMMENT ON COLUMN postrider.operations.asked_at IS 'When it was asked for: what dies or comes later is left alone.';
COMMENT ON COLUMN postrider.operations.as_of IS 'The messages that there were then.';
COMMENT ON COLUMN postrider.operations.expected IS 'For how many it was asked, as far as they were counted.';
COMMENT ON COLUMN postrider.operations.expected_more IS 'There were more than expected.';
COMMENT ON COLUMN postrider.operations.looked IS 'How many messages it has looked at.';
COMMENT ON COLUMN postrider.operations.changed IS 'How many of them it has redriven, discarded or cancelled; where a relay delivers, for how many it has asked to cancel them.';
COMMENT ON COLUMN postrider.operations.refused IS 'How many dead letters were not redriven because another message has their unique key.';
COMMENT ON COLUMN postrider.operations.trouble IS 'Why the last chunk was not done; it is tried again unless the state is failed.';
COMMENT ON COLUMN postrider.operations.in_log IS 'It is looking through the log; what is parked comes after that.';
COMMENT ON COLUMN postrider.operations.up_to IS 'The last id in the log that it looks at.';
COMMENT ON COLUMN postrider.operations.after_id IS 'Where it has come to: the id.';
COMMENT ON COLUMN postrider.operations.after_segment IS 'Where it has come to in the log: of one id, the segment.';
COMMENT ON COLUMN postrider.operations.after_created IS 'Where it has come to among what is parked: of one id, the creation.';
COMMENT ON COLUMN postrider.operations.relay IS 'The relay that did the last chunk.';
COMMENT ON COLUMN postrider.operations.due IS 'When the next chunk may be done.';
COMMENT ON COLUMN postrider.operations.worked_at IS 'When the last chunk was done.';
COMMENT ON COLUMN postrider.operations.finished_at IS 'When it was done, cancelled or failed.';

COMMENT ON SEQUENCE postrider.operations_id_seq IS 'The numbers of operations.';

CREATE INDEX operations_unfinished ON postrider.operations (due, id) WHERE finished_at IS NULL;

CREATE FUNCTION postrider.plan_operation(kind text, subscription text, topic text, key text, failure text, since timestamptz, until timestamptz, everything boolean, reason text)
    RETURNS postrider.operations
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    o postrider.operations;
BEGIN
    IF kind IS NULL OR kind NOT IN ('redrive', 'discard', 'cancel') THEN
        RAISE EXCEPTION 'operation %: must be redrive, discard or cancel', coalesce('"' || left(kind, 100) || '"', 'null') USING ERRCODE = '22023';
    ELSIF NOT EXISTS (SELECT FROM postrider.subscriptions q WHERE q.name = plan_operation.subscription) THEN
        RAISE EXCEPTION 'subscription %: there is none of this name', coalesce('"' || left(subscription, 100) || '"', 'null') USING ERRCODE = '22023';
    ELSIF topic IS NOT NULL AND NOT postrider.valid_patterns(ARRAY[topic]) THEN
        RAISE EXCEPTION 'topic "%": must be a pattern such as orders.created, orders.* or orders.>', left(topic, 100) USING ERRCODE = '22023';
    ELSIF failure IS NOT NULL AND btrim(failure, '* ') = '' THEN
        RAISE EXCEPTION 'failure "%": must be a part of the last error, such as status 503; * stands for anything between two parts', left(failure, 100) USING ERRCODE = '22023';
    ELSIF since >= until THEN
        RAISE EXCEPTION 'since %: must be before until, which is %', since, until USING ERRCODE = '22023';
    ELSIF reason IS NOT NULL AND kind <> 'cancel' THEN
        RAISE EXCEPTION 'reason "%": only cancel keeps one with the messages', left(reason, 100) USING ERRCODE = '22023';
    ELSIF coalesce(everything, false) <> (topic IS NULL AND key IS NULL AND failure IS NULL AND since IS NULL AND until IS NULL) THEN
        RAISE EXCEPTION '% of "%": say which messages: by topic, key, failure, since and until, or else everything', kind, subscription USING ERRCODE = '22023';
    END IF;
    SELECT * INTO o FROM jsonb_populate_record(NULL::postrider.operations, '{"looked": 0, "changed": 0, "refused": 0, "after_segment": -1, "state": "waiting"}');
    o.kind := kind; o.subscription := subscription; o.topic := topic; o.key := key; o.failure := failure; o.since := since; o.until := until;
    o.reason := CASE WHEN kind = 'cancel' THEN postrider.clean_reason(reason, 'cancelled') END;
    o.asked_by := session_user; o.asked_at := clock_timestamp(); o.due := o.asked_at; o.as_of := pg_current_snapshot();
    o.up_to := coalesce((SELECT max(m.id) FROM postrider.outbox m), 0);
    o.in_log := kind = 'cancel' AND failure IS NULL; -- what is in the log alone has not failed
    o.after_id := -9223372036854775808; o.after_created := '-infinity';
    RETURN o;
END $$;
COMMENT ON FUNCTION postrider.plan_operation IS 'An operation before its begin; an error says what is wrong with it.';

CREATE FUNCTION postrider.like_failure(failure text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT '%' || replace(regexp_replace($1, '([\\%_])', '\\\1', 'g'), '*', '%') || '%'
$$;
COMMENT ON FUNCTION postrider.like_failure IS 'A part of an error as a pattern of LIKE.';

-- In the order of the primary key, from where the operation has come to, whatever the estimates say.
CREATE FUNCTION postrider.operation_parked(o postrider.operations, looks integer)
    RETURNS TABLE (id bigint, created_at timestamptz, segment smallint, likely boolean)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    regex  text := CASE WHEN o.topic IS NOT NULL THEN postrider.topic_regex(ARRAY[o.topic]) END;
    failed text := postrider.like_failure(o.failure);
    states text[] := CASE o.kind WHEN 'cancel' THEN '{retrying,held,scheduled,leased,failed}' ELSE '{dead}' END;
BEGIN
    RETURN QUERY
    SELECT p.id, p.created_at, 0::smallint, p.state = ANY (states)
        AND CASE WHEN o.kind = 'cancel' THEN coalesce(pg_visible_in_snapshot(p.xid, o.as_of), p.created_at <= o.asked_at) ELSE p.updated_at <= o.asked_at END
        AND (regex IS NULL OR p.topic ~ regex) AND (o.key IS NULL OR p.key = o.key) AND (failed IS NULL OR coalesce(p.reason ILIKE failed, false))
        AND (o.since IS NULL OR p.created_at >= o.since) AND (o.until IS NULL OR p.created_at < o.until)
    FROM postrider.parked p
    WHERE p.subscription = o.subscription AND (p.id, p.created_at) > (o.after_id, o.after_created)
    ORDER BY p.id, p.created_at LIMIT looks;
END $$;
COMMENT ON FUNCTION postrider.operation_parked IS 'The next parked messages of an operation, and which of them it concerns.';

CREATE FUNCTION postrider.settled_in_shard(c postrider.shard_positions, id bigint, created_at timestamptz, xid xid8) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN coalesce(pg_visible_in_snapshot(xid, c.base)
        OR id <= c.after_id AND pg_visible_in_snapshot(xid, c.target)
        OR c.done @> id AND created_at <= c.done_before, false);
END $$;
COMMENT ON FUNCTION postrider.settled_in_shard IS 'Whether a message of the log is settled where its shard stands.';

CREATE FUNCTION postrider.operation_log(o postrider.operations, looks integer)
    RETURNS TABLE (id bigint, created_at timestamptz, segment smallint, likely boolean)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    s      postrider.subscriptions;
    h      postrider.shard_settings;
    wanted text;
    regex  text := CASE WHEN o.topic IS NOT NULL THEN postrider.topic_regex(ARRAY[o.topic]) END;
    bases  pg_snapshot[];
    places postrider.shard_positions[]; -- by shard
BEGIN
    SELECT * INTO s FROM postrider.subscriptions q WHERE q.name = o.subscription;
    SELECT * INTO h FROM postrider.shard_settings q WHERE q.subscription = o.subscription;
    IF s.earlier = '[]' THEN
        wanted := postrider.topic_regex(s.topics);
    END IF;
    IF h.subscription IS NOT NULL THEN
        places := ARRAY(SELECT postrider.shard_position(h.subscription, g) FROM generate_series(1, h.shards) g);
    ELSE
        bases := ARRAY(SELECT c.base FROM postrider.cursors c WHERE c.subscription = o.subscription);
    END IF;
    RETURN QUERY
    SELECT m.id, m.created_at, m.segment, (regex IS NULL OR m.topic::text ~ regex) AND (o.key IS NULL OR m.key = o.key)
        AND (o.since IS NULL OR m.created_at >= o.since) AND (o.until IS NULL OR m.created_at < o.until)
        AND pg_visible_in_snapshot(m.xid, o.as_of) AND NOT pg_visible_in_snapshot(m.xid, s.started)
        AND CASE WHEN h.subscription IS NOT NULL THEN NOT postrider.settled_in_shard(places[postrider.shard_of(m.key, m.id, h.shards)], m.id, m.created_at, m.xid)
                 ELSE EXISTS (SELECT FROM unnest(bases) b WHERE NOT pg_visible_in_snapshot(m.xid, b)) AND EXISTS (
                     SELECT FROM postrider.cursors c WHERE c.subscription = o.subscription AND c.class IN (0, postrider.class_of(m.priority))
                        AND NOT coalesce(pg_visible_in_snapshot(m.xid, c.base)
                            OR m.id <= c.after_id AND pg_visible_in_snapshot(m.xid, c.target)
                            OR c.done @> m.id AND m.created_at <= c.saved_at
                            OR EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last)
                                       WHERE d.ids @> m.id AND m.created_at BETWEEN d.first AND d.last), false)) END
        AND m.topic::text ~ coalesce(wanted, postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, m.xid)))
        AND NOT EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = o.subscription AND p.id = m.id AND p.created_at = m.created_at)
    FROM postrider.outbox m
    WHERE (m.id, m.segment) > (o.after_id, o.after_segment) AND m.id <= o.up_to
    ORDER BY m.id, m.segment LIMIT looks;
END $$;
COMMENT ON FUNCTION postrider.operation_log IS 'The next messages of the log, and which of them an operation concerns: neither settled nor parked.';

-- Messages go from the log to what is parked, never back: whoever looks there second misses none.
CREATE FUNCTION postrider.next_of_operation(INOUT o postrider.operations, most integer, looks integer,
        OUT ids bigint[], OUT born timestamptz[], OUT segments smallint[], OUT ended boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    found record;
BEGIN
    ended := false;
    WITH seen AS MATERIALIZED (
        SELECT * FROM postrider.operation_log(o, looks) WHERE o.in_log
        UNION ALL
        SELECT * FROM postrider.operation_parked(o, looks) WHERE NOT o.in_log
    ), numbered AS (
        SELECT s.*, count(*) FILTER (WHERE s.likely) OVER (ORDER BY s.id, s.segment, s.created_at) AS nth FROM seen s
    )
    SELECT count(*) AS looked, (SELECT count(*) FROM seen) AS all_seen,
           array_agg(n.id ORDER BY n.id, n.segment, n.created_at) FILTER (WHERE n.likely) AS ids,
           array_agg(n.created_at ORDER BY n.id, n.segment, n.created_at) FILTER (WHERE n.likely) AS born,
           array_agg(n.segment ORDER BY n.id, n.segment, n.created_at) FILTER (WHERE n.likely) AS segments,
           (array_agg(n.id ORDER BY n.id DESC, n.segment DESC, n.created_at DESC))[1] AS last_id,
           (array_agg(n.segment ORDER BY n.id DESC, n.segment DESC, n.created_at DESC))[1] AS last_segment,
           (array_agg(n.created_at ORDER BY n.id DESC, n.segment DESC, n.created_at DESC))[1] AS last_created
    INTO found FROM numbered n WHERE n.nth <= most;
    o.looked := o.looked + found.looked;
    IF found.looked > 0 THEN
        o.after_id := found.last_id; o.after_segment := found.last_segment; o.after_created := found.last_created;
    END IF;
    ids := coalesce(found.ids, '{}'); born := coalesce(found.born, '{}'); segments := coalesce(found.segments, '{}');
    IF found.looked = found.all_seen AND found.all_seen < looks THEN
        ended := NOT o.in_log;
        IF o.in_log THEN
            o.in_log := false; o.after_id := -9223372036854775808; o.after_segment := -1; o.after_created := '-infinity';
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION postrider.next_of_operation IS 'The next messages that an operation concerns, and where it has come to with them.';

CREATE FUNCTION postrider.count_operation(o postrider.operations, OUT messages bigint, OUT more boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    most  CONSTANT integer := 10000;
    looks CONSTANT integer := 200000;
    until CONSTANT timestamptz := clock_timestamp() + interval '5 seconds';
    n     record;
BEGIN
    messages := 0;
    LOOP
        SELECT * INTO n FROM postrider.next_of_operation(o, 2000, 20000);
        o := n.o;
        messages := messages + cardinality(n.ids);
        more := NOT n.ended;
        EXIT WHEN n.ended OR messages > most OR o.looked >= looks OR clock_timestamp() > until;
    END LOOP;
    more := more OR messages > most;
    messages := least(messages, most);
END $$;
COMMENT ON FUNCTION postrider.count_operation IS 'How many messages an operation would concern: at most ten thousand are counted, two hundred thousand looked at, for five seconds; more says that there may be others.';

CREATE FUNCTION postrider.preview_operation(kind text, subscription text, topic text DEFAULT NULL, key text DEFAULT NULL, failure text DEFAULT NULL,
        since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, everything boolean DEFAULT false, OUT messages bigint, OUT more boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    SELECT c.messages, c.more INTO messages, more
    FROM postrider.count_operation(postrider.plan_operation(kind, subscription, topic, key, failure, since, until, everything, NULL)) c;
END $$;
COMMENT ON FUNCTION postrider.preview_operation IS 'How many messages postrider.start_operation would concern, and changes nothing. more: there may be others beside these.';

CREATE FUNCTION postrider.start_operation(kind text, subscription text, topic text DEFAULT NULL, key text DEFAULT NULL, failure text DEFAULT NULL,
        since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, everything boolean DEFAULT false, reason text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    o postrider.operations := postrider.plan_operation(kind, subscription, topic, key, failure, since, until, everything, reason);
    n bigint;
BEGIN
    SELECT c.messages, c.more INTO o.expected, o.expected_more FROM postrider.count_operation(o) c;
    INSERT INTO postrider.operations (kind, subscription, topic, key, failure, since, until, reason, asked_by, asked_at, as_of, expected, expected_more, in_log, up_to)
    VALUES (o.kind, o.subscription, o.topic, o.key, o.failure, o.since, o.until, o.reason, o.asked_by, o.asked_at, o.as_of, o.expected, o.expected_more, o.in_log, o.up_to)
    RETURNING operations.id INTO n;
    RETURN n;
END $$;
COMMENT ON FUNCTION postrider.start_operation IS 'Redrives or discards the dead letters of a subscription, or cancels its messages that are not settled: those whose topic the pattern matches, that have the key, whose last error contains failure (* stands for anything), created from since on and before until, as far as these are given, or everything. Relays work it off in chunks. Returns its number.';

CREATE FUNCTION postrider.cancel_operation(id bigint) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '30s' AS $$
DECLARE
    o postrider.operations;
BEGIN
    SELECT * INTO o FROM postrider.operations q WHERE q.id = cancel_operation.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'operation %: there is none of this number', coalesce(id::text, 'null') USING ERRCODE = '42704';
    ELSIF o.finished_at IS NULL THEN
        UPDATE postrider.operations q SET state = 'cancelled', finished_at = clock_timestamp() WHERE q.id = o.id;
        RETURN 'cancelled';
    END IF;
    RETURN o.state;
END $$;
COMMENT ON FUNCTION postrider.cancel_operation IS 'Ends an operation after the chunk that is being done: from the COMMIT on nothing more is changed, and what was changed stays so. Returns the state that it has then: done if it came too late.';

-- Dead letters whose unique key another message has, which the subscription has not settled. Keys are locked, in order, before anything else is.
CREATE FUNCTION postrider.unique_taken(subscription text, ids bigint[], born timestamptz[]) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '10s' AS $$
DECLARE
    w     record;
    k     postrider.unique_keys;
    taken bigint[] := '{}';
BEGIN
    IF NOT EXISTS (SELECT FROM postrider.unique_keys u WHERE u.subscription = unique_taken.subscription) THEN
        RETURN taken;
    END IF;
    FOR w IN
        SELECT f.key, f.id, f.created_at FROM unnest(ids, born) i (id, born)
        JOIN postrider.unique_formers f ON f.subscription = unique_taken.subscription AND f.id = i.id AND f.created_at = i.born
        ORDER BY 1, 2
    LOOP
        SELECT * INTO k FROM postrider.unique_keys u WHERE u.subscription = unique_taken.subscription AND u.key = w.key FOR UPDATE;
        IF FOUND AND (k.id, k.created_at) <> (w.id, w.created_at) AND postrider.unique_standing(k) IN ('pending', 'out') THEN
            taken := taken || w.id;
        END IF;
    END LOOP;
    RETURN taken;
END $$;
COMMENT ON FUNCTION postrider.unique_taken IS 'Which dead letters cannot be redriven because another message has their unique key.';

-- As cancel_in_shard, with all shards locked once, and each written once.
CREATE FUNCTION postrider.cancel_in_shards(s postrider.shard_settings, ids bigint[], born timestamptz[], segments smallint[], reason text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    places  postrider.shard_positions[];
    c       postrider.shard_positions;
    k       text;
    waited  record;
    unseen  record;
BEGIN
    PERFORM postrider.lock_shards(s.subscription);
    places := ARRAY(SELECT postrider.shard_position(s.subscription, g) FROM generate_series(1, s.shards) g);
    WITH made AS (
        UPDATE postrider.parked q SET state = 'cancelled', due = NULL, reason = cancel_in_shards.reason, updated_at = clock_timestamp()
        FROM unnest(ids, born) u (id, born)
        WHERE q.subscription = s.subscription AND q.id = u.id AND q.created_at = u.born AND q.state IN ('retrying', 'held', 'scheduled')
        RETURNING q.shard, q.key)
    SELECT count(*) AS n, coalesce(array_agg(DISTINCT m.key) FILTER (WHERE m.key IS NOT NULL), '{}') AS keys, coalesce(array_agg(DISTINCT m.shard), '{}') AS shards
    INTO waited FROM made m;
    WITH made AS (
        INSERT INTO postrider.parked (subscription, shard, id, created_at, xid, state, reason, topic, key, payload, body, headers, priority)
        SELECT s.subscription, h.shard, m.id, m.created_at, m.xid, 'cancelled', cancel_in_shards.reason, m.topic, m.key, m.payload, m.body, m.headers, m.priority
        FROM unnest(ids, born, segments) u (id, born, segment)
        JOIN postrider.outbox m ON m.segment = u.segment AND m.id = u.id AND m.created_at = u.born
        CROSS JOIN LATERAL (SELECT postrider.shard_of(m.key, m.id, s.shards) AS shard) h
        WHERE NOT postrider.settled_in_shard(places[h.shard], m.id, m.created_at, m.xid)
        ON CONFLICT DO NOTHING RETURNING shard)
    SELECT count(*) AS n, coalesce(array_agg(DISTINCT m.shard), '{}') AS shards INTO unseen FROM made m;
    FOREACH k IN ARRAY waited.keys LOOP
        PERFORM postrider.release_key(s, k);
    END LOOP;
    FOREACH c IN ARRAY places LOOP
        IF c.shard = ANY (waited.shards || unseen.shards) THEN
            c.again := c.again OR c.shard = ANY (unseen.shards); -- so that who comes by looks whether it is parked
            c.parked := true;
            PERFORM postrider.save_position(c);
        END IF;
    END LOOP;
    RETURN waited.n + unseen.n;
END $$;
COMMENT ON FUNCTION postrider.cancel_in_shards IS 'Cancels messages of a subscription that workers take from in SQL, as far as they are neither settled nor given up. Returns how many.';

-- One chunk of an operation whose row is locked. A change is one change of the subscription, however many messages it concerns.
CREATE FUNCTION postrider.do_operation(INOUT o postrider.operations, most integer)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    s     postrider.shard_settings;
    c     record;
    other bigint[] := '{}'; -- has the unique key
    n     bigint := 0;
BEGIN
    SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = o.subscription;
    SELECT * INTO c FROM postrider.next_of_operation(o, most, 10 * most);
    o := c.o;
    IF c.ids <> '{}' AND o.kind = 'cancel' AND s.subscription IS NULL THEN
        INSERT INTO postrider.cancels AS q (subscription, id, created_at, segment, reason)
        SELECT o.subscription, u.id, u.born, u.segment, o.reason FROM unnest(c.ids, c.born, c.segments) u (id, born, segment)
        ON CONFLICT ON CONSTRAINT cancels_pkey DO UPDATE SET waiting = false, seen = NULL WHERE q.waiting;
        GET DIAGNOSTICS n = ROW_COUNT;
    ELSIF c.ids <> '{}' AND o.kind = 'cancel' THEN
        n := postrider.cancel_in_shards(s, c.ids, c.born, c.segments, o.reason);
    ELSIF c.ids <> '{}' THEN
        IF o.kind = 'redrive' THEN
            other := postrider.unique_taken(o.subscription, c.ids, c.born);
            PERFORM postrider.take_unique_again(o.subscription, ARRAY(SELECT i FROM unnest(c.ids) i WHERE i <> ALL (other)));
            o.refused := o.refused + cardinality(other);
        END IF;
        PERFORM postrider.lock_subscription(o.subscription);
        UPDATE postrider.parked p SET state = CASE o.kind WHEN 'redrive' THEN 'retrying' ELSE 'discarded' END,
            attempts = CASE o.kind WHEN 'redrive' THEN 0 ELSE p.attempts END, due = CASE o.kind WHEN 'redrive' THEN now() END, updated_at = now()
        FROM unnest(c.ids, c.born) u (id, born)
        WHERE p.subscription = o.subscription AND p.id = u.id AND p.created_at = u.born AND p.state = 'dead' AND p.updated_at <= o.asked_at AND p.id <> ALL (other);
        GET DIAGNOSTICS n = ROW_COUNT;
        UPDATE postrider.subscriptions t SET version = t.version + 1 WHERE t.name = o.subscription AND n > 0;
    END IF;
    o.changed := o.changed + n;
    -- Deliveries go on in between.
    o.due := clock_timestamp() + CASE WHEN n = 0 THEN '0' WHEN o.kind = 'cancel' THEN '250 milliseconds' ELSE '1 second' END::interval;
    IF c.ended THEN
        o.state := 'done'; o.finished_at := clock_timestamp();
    END IF;
END $$;
COMMENT ON FUNCTION postrider.do_operation IS 'Does the next chunk of an operation.';

CREATE FUNCTION postrider.work_operation(relay text DEFAULT NULL, most integer DEFAULT 2000, OUT id bigint, OUT wait interval)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
#variable_conflict use_column
DECLARE
    o   postrider.operations;
    was postrider.operations;
BEGIN
    IF most IS NULL OR most NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'most %: must be from 1 to 10000', coalesce(most::text, 'null') USING ERRCODE = '22023';
    END IF;
    PERFORM postrider.require_this_cluster();
    SELECT * INTO was FROM postrider.operations q WHERE q.finished_at IS NULL AND q.due <= clock_timestamp() ORDER BY q.due, q.id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        id := was.id;
        o := was;
        IF NOT EXISTS (SELECT FROM postrider.subscriptions s WHERE s.name = o.subscription AND s.created_at <= o.asked_at) THEN
            o.state := 'failed'; o.finished_at := clock_timestamp(); o.trouble := format('subscription "%s" was removed', o.subscription);
        ELSE
            BEGIN
                o.state := 'running'; o.trouble := NULL;
                o := postrider.do_operation(o, most);
            EXCEPTION WHEN OTHERS THEN -- nothing of the chunk was done
                o := was;
                o.state := 'running'; o.trouble := left(SQLERRM, 1000); o.due := clock_timestamp() + interval '5 seconds';
            END;
        END IF;
        UPDATE postrider.operations q SET (state, looked, changed, refused, trouble, in_log, after_id, after_segment, after_created, relay, due, worked_at, finished_at)
            = (o.state, o.looked, o.changed, o.refused, o.trouble, o.in_log, o.after_id, o.after_segment, o.after_created, work_operation.relay, o.due, clock_timestamp(), o.finished_at)
        WHERE q.id = o.id;
    END IF;
    SELECT min(q.due) - clock_timestamp() INTO wait FROM postrider.operations q WHERE q.finished_at IS NULL;
    IF wait < '0' THEN
        wait := '0';
    END IF;
END $$;
COMMENT ON FUNCTION postrider.work_operation IS 'Does a chunk of an operation that is due, and notes how far that is: both or none. Relays call it. Returns which one it was, null if nobody waits for one, and how long the next one is to be waited for, null if there is none.';

CREATE FUNCTION postrider.expire_operations(retention interval) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    n bigint;
BEGIN
    IF retention IS NULL OR retention < '0' THEN
        RAISE EXCEPTION 'retention %: must be an interval that is not negative', coalesce(retention::text, 'null') USING ERRCODE = '22023';
    END IF;
    DELETE FROM postrider.operations o WHERE o.finished_at < clock_timestamp() - retention;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION postrider.expire_operations IS 'Removes operations that ended longer ago than the retention. Relays call it. Returns how many.';

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'postrider'::regnamespace AND p.proacl IS NULL LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;
