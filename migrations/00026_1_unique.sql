SET LOCAL search_path = pg_catalog, pg_temp;

-- Who asks for it enqueues a message once: while another one of the same key waits for a subscription, or for some time. Only who asks
-- writes here, in the transaction of the message, so that a rollback gives the key back. No relay ever waits for a row of these tables:
-- whether a key is free again is judged by who enqueues next.
CREATE TABLE postrider.unique_keys (
    subscription text NOT NULL,
    key          text COLLATE "C" NOT NULL,
    id           bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    segment      smallint NOT NULL,
    until        timestamptz,
    mark         bigint,
    PRIMARY KEY (subscription, key)
) WITH (fillfactor = 80);
COMMENT ON TABLE postrider.unique_keys IS 'Which message has which unique key: see postrider.enqueue_unique.';
COMMENT ON COLUMN postrider.unique_keys.subscription IS 'The subscription for which the key is taken until it has settled the message; empty for a key that is taken for a time.';
COMMENT ON COLUMN postrider.unique_keys.key IS 'The unique key.';
COMMENT ON COLUMN postrider.unique_keys.id IS 'The message''s id in the outbox.';
COMMENT ON COLUMN postrider.unique_keys.created_at IS 'The message''s creation: ids may come again.';
COMMENT ON COLUMN postrider.unique_keys.segment IS 'Where in the ring the message is.';
COMMENT ON COLUMN postrider.unique_keys.until IS 'Of a key that is taken for a time: when it is free again.';
COMMENT ON COLUMN postrider.unique_keys.mark IS 'What the sequence of the message''s shard said when it was enqueued, of a subscription that workers take from in SQL: as long as it says the same, nobody has been handed anything.';

CREATE INDEX unique_keys_id ON postrider.unique_keys (id);

CREATE TABLE postrider.unique_again (
    subscription text NOT NULL,
    unique_key   text COLLATE "C" NOT NULL,
    topic        text NOT NULL,
    key          text,
    payload      jsonb,
    body         bytea,
    headers      jsonb,
    deliver_at   timestamptz,
    priority     smallint NOT NULL,
    PRIMARY KEY (subscription, unique_key)
);
COMMENT ON TABLE postrider.unique_again IS 'Duplicates that came when the first message might have been out already: the last one of each key is enqueued once that one is settled.';
COMMENT ON COLUMN postrider.unique_again.subscription IS 'The subscription for which the key is taken.';
COMMENT ON COLUMN postrider.unique_again.unique_key IS 'The unique key.';
COMMENT ON COLUMN postrider.unique_again.topic IS 'The message''s topic.';
COMMENT ON COLUMN postrider.unique_again.key IS 'The message''s key.';
COMMENT ON COLUMN postrider.unique_again.payload IS 'The message, if it is JSON.';
COMMENT ON COLUMN postrider.unique_again.body IS 'The message, if it is bytes.';
COMMENT ON COLUMN postrider.unique_again.headers IS 'The message''s headers.';
COMMENT ON COLUMN postrider.unique_again.deliver_at IS 'When the message is due.';
COMMENT ON COLUMN postrider.unique_again.priority IS 'The message''s priority.';

CREATE TABLE postrider.unique_formers (
    subscription text NOT NULL,
    id           bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    key          text COLLATE "C" NOT NULL,
    PRIMARY KEY (subscription, id, created_at)
);
COMMENT ON TABLE postrider.unique_formers IS 'Messages that had a unique key, were given up, and left it to another one: who redrives them is told.';
COMMENT ON COLUMN postrider.unique_formers.subscription IS 'The subscription for which the key is taken.';
COMMENT ON COLUMN postrider.unique_formers.id IS 'The message''s id in the outbox.';
COMMENT ON COLUMN postrider.unique_formers.created_at IS 'The message''s creation.';
COMMENT ON COLUMN postrider.unique_formers.key IS 'The unique key that it had.';

CREATE FUNCTION postrider.check_unique(unique_key text, unique_scope text, OUT subscription text, OUT lasts interval)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF unique_key IS NULL OR unique_scope IS NULL OR unique_key = '' THEN
        RAISE EXCEPTION 'unique_key % with unique_scope %: give both or neither', coalesce('"' || left(unique_key, 60) || '"', 'null'), coalesce('"' || left(unique_scope, 60) || '"', 'null')
            USING ERRCODE = '22023';
    ELSIF octet_length(unique_key) > 1000 THEN
        RAISE EXCEPTION 'unique_key "%..." has % bytes: at most 1000 are allowed', left(unique_key, 30), octet_length(unique_key) USING ERRCODE = '22023',
            HINT = 'Give a hash of what is longer.';
    ELSIF unique_scope LIKE 'pending:%' THEN
        subscription := substr(unique_scope, 9);
        IF NOT EXISTS (SELECT FROM postrider.subscriptions s WHERE s.name = check_unique.subscription) THEN
            RAISE EXCEPTION 'unique_scope "%": there is no subscription "%"', left(unique_scope, 100), left(subscription, 90) USING ERRCODE = '22023';
        END IF;
        RETURN;
    END IF;
    subscription := '';
    BEGIN
        IF unique_scope !~ '^\s*\d+(\.\d+)?\s*$' THEN -- of a number alone nobody knows what it counts
            lasts := unique_scope::interval;
        END IF;
    EXCEPTION WHEN data_exception THEN
        NULL;
    END;
    IF lasts IS NULL OR lasts NOT BETWEEN '1 millisecond' AND '1 year' THEN
        RAISE EXCEPTION 'unique_scope "%": must be pending:SUBSCRIPTION, or a time of at most a year such as 1h or 2 days', left(unique_scope, 100) USING ERRCODE = '22023';
    END IF;
END $$;
COMMENT ON FUNCTION postrider.check_unique IS 'What a unique key and its scope mean, or an error that says what is wrong with them.';

-- Whether somebody is at work on a shard: PostgreSQL shows it in the row alone. What a snapshot calls running is running.
CREATE FUNCTION postrider.shard_in_use(subscription text, shard smallint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    lockers bigint[] := ARRAY(SELECT x::text::bigint FROM postrider.shards h CROSS JOIN LATERAL postrider.row_lockers(h.xmax) x
                              WHERE h.subscription = shard_in_use.subscription AND h.shard = shard_in_use.shard AND x <> '0');
    here    pg_snapshot;
    top     bigint;
BEGIN
    here := pg_current_snapshot(); -- after the row was looked at
    top := pg_snapshot_xmax(here)::text::bigint;
    RETURN EXISTS (SELECT FROM unnest(lockers) x WHERE ((x - top) & 4294967295) < 2147483648
        OR EXISTS (SELECT FROM pg_snapshot_xip(here) r WHERE (r::text::bigint & 4294967295) = x));
END $$;
COMMENT ON FUNCTION postrider.shard_in_use IS 'Whether a transaction that has not ended has locked a shard.';

CREATE FUNCTION postrider.shard_mark(subscription text, shard smallint) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT coalesce(pg_sequence_last_value(h.tries), 0) FROM postrider.shards h WHERE h.subscription = $1 AND h.shard = $2
$$;
COMMENT ON FUNCTION postrider.shard_mark IS 'What a shard''s sequence says: it changes with whatever is handed out.';

-- Where a message stands for a subscription, as far as the tables tell. A relay saves about once a second, so that what it has not settled
-- by the table may be out, or even be delivered. Who has it is looked at first: what ends meanwhile shows in what is looked at then.
CREATE FUNCTION postrider.unique_standing(k postrider.unique_keys) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    fresh  boolean := current_setting('transaction_isolation') LIKE 'read %'; -- else all but sequences is as it was when the transaction began
    later  timestamptz := clock_timestamp() + interval '1 minute';            -- a relay has a clock of its own
    s      postrider.shard_settings;
    part   smallint;
    o      record;
    p      record;
    is_out boolean;
    over   boolean;
BEGIN
    SELECT m.xid, m.key, m.deliver_at, m.priority INTO o FROM postrider.outbox m WHERE m.segment = k.segment AND m.id = k.id AND m.created_at = k.created_at;
    IF o.xid = pg_current_xact_id_if_assigned() THEN
        RETURN 'pending';
    END IF;
    SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = k.subscription;
    IF s.subscription IS NULL THEN
        SELECT coalesce(bool_or(c.owner IS NOT NULL), false) OR NOT fresh INTO is_out FROM postrider.cursors c WHERE c.subscription = k.subscription;
    ELSE
        SELECT q.shard INTO part FROM postrider.parked q WHERE q.subscription = k.subscription AND q.id = k.id AND q.created_at = k.created_at;
        part := coalesce(part, postrider.shard_of(o.key, k.id, s.shards));
        is_out := postrider.shard_mark(k.subscription, part) IS DISTINCT FROM k.mark AND (NOT fresh OR postrider.shard_in_use(k.subscription, part));
    END IF;
    SELECT q.state, q.due INTO p FROM postrider.parked q WHERE q.subscription = k.subscription AND q.id = k.id AND q.created_at = k.created_at;
    IF p.state IS NOT NULL THEN
        RETURN CASE WHEN p.state = 'completed' THEN 'settled'
                    WHEN p.state IN ('retrying', 'held', 'scheduled') THEN CASE WHEN NOT is_out OR fresh AND p.state = 'scheduled' AND p.due > later THEN 'pending' ELSE 'out' END
                    WHEN p.state IN ('leased', 'failed') THEN 'out'
                    ELSE p.state END;
    ELSIF o.xid IS NULL THEN
        RETURN 'settled'; -- its segment was emptied
    END IF;
    IF s.subscription IS NULL THEN
        SELECT coalesce(bool_and(pg_visible_in_snapshot(o.xid, c.base)
            OR coalesce(k.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target), false)
            OR c.done @> k.id AND k.created_at <= c.saved_at
            OR EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last) WHERE d.ids @> k.id AND k.created_at BETWEEN d.first AND d.last)), true)
        INTO over FROM postrider.cursors c WHERE c.subscription = k.subscription AND c.class IN (0, postrider.class_of(o.priority));
    ELSE
        SELECT pg_visible_in_snapshot(o.xid, c.base)
            OR k.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target)
            OR c.done @> k.id AND k.created_at <= c.done_before
        INTO over FROM postrider.shard_position(k.subscription, part) c;
    END IF;
    RETURN CASE WHEN over THEN 'settled' WHEN NOT is_out OR fresh AND o.deliver_at > later THEN 'pending' ELSE 'out' END;
END $$;
COMMENT ON FUNCTION postrider.unique_standing IS 'Where the message that has a unique key stands: pending, out (or about to be), settled, dead, or given up otherwise.';

-- What is locked stays so until the transaction ends: who comes with the same key waits for that, and is answered by what became of it.
CREATE FUNCTION postrider.lock_unique(subscription text, key text, OUT id bigint, OUT outcome text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    k postrider.unique_keys;
BEGIN
    LOOP
        -- Its message is drawn an id after the lock only: ids ascend in the order of insertion.
        INSERT INTO postrider.unique_keys (subscription, key, id, created_at, segment) VALUES (lock_unique.subscription, lock_unique.key, 0, 'infinity', 0)
        ON CONFLICT ON CONSTRAINT unique_keys_pkey DO NOTHING;
        IF FOUND THEN
            outcome := 'new';
            RETURN;
        END IF;
        SELECT * INTO k FROM postrider.unique_keys u WHERE u.subscription = lock_unique.subscription AND u.key = lock_unique.key FOR UPDATE;
        EXIT WHEN FOUND; -- else it was removed in between
    END LOOP;
    id := k.id;
    IF k.until IS NOT NULL THEN
        outcome := CASE WHEN k.until > clock_timestamp() THEN 'pending' ELSE 'new' END;
        RETURN;
    END IF;
    outcome := postrider.unique_standing(k);
    IF outcome = 'out' THEN
        -- Nobody but workers in SQL is there for sure to enqueue it later: they are told at once.
        outcome := CASE WHEN EXISTS (SELECT FROM postrider.shard_settings t WHERE t.subscription = k.subscription) THEN 'new' ELSE 'again' END;
    ELSIF outcome <> 'pending' THEN
        IF outcome <> 'settled' THEN
            INSERT INTO postrider.unique_formers VALUES (k.subscription, k.id, k.created_at, k.key) ON CONFLICT DO NOTHING;
        END IF;
        outcome := 'new';
    END IF;
END $$;
COMMENT ON FUNCTION postrider.lock_unique IS 'Takes a unique key for the calling transaction. Outcomes: new (the key is the caller''s), pending (another message has it, which is returned), again (and that may be out).';

CREATE FUNCTION postrider.hold_unique(subscription text, unique_key text, lasts interval, id bigint, created_at timestamptz, segment smallint, key text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    UPDATE postrider.unique_keys u SET id = hold_unique.id, created_at = hold_unique.created_at, segment = hold_unique.segment,
        until = clock_timestamp() + hold_unique.lasts,
        mark = (SELECT postrider.shard_mark(t.subscription, postrider.shard_of(hold_unique.key, hold_unique.id, t.shards))
                FROM postrider.shard_settings t WHERE t.subscription = hold_unique.subscription)
    WHERE u.subscription = hold_unique.subscription AND u.key = hold_unique.unique_key;
END $$;
COMMENT ON FUNCTION postrider.hold_unique IS 'Notes which message has a unique key that the calling transaction has taken.';

CREATE FUNCTION postrider.enqueue_many(topic text[], key text[] DEFAULT NULL, payload jsonb[] DEFAULT NULL, body bytea[] DEFAULT NULL, headers jsonb[] DEFAULT NULL,
        deliver_at timestamptz[] DEFAULT NULL, priority smallint[] DEFAULT NULL, unique_key text[] DEFAULT NULL, unique_scope text[] DEFAULT NULL)
    RETURNS TABLE (id bigint, duplicate boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
#variable_conflict use_column
DECLARE
    total    integer := coalesce(cardinality(enqueue_many.topic), 0);
    ids      bigint[] := array_fill(NULL::bigint, ARRAY[total]);
    same     integer[] := array_fill(NULL::integer, ARRAY[total]); -- another one of these messages has the key
    u        record;
    before   text[];  -- the key before,
    holder   integer; -- and which of these messages has it
    got      record;
    made     record;
BEGIN
    -- In one order for all: two who want some of the same keys wait for each other in turn.
    FOR u IN SELECT w.n::integer AS n, w.key, c.subscription, c.lasts
             FROM ROWS FROM (unnest(enqueue_many.unique_key), unnest(enqueue_many.unique_scope)) WITH ORDINALITY w (key, scope, n)
             CROSS JOIN LATERAL postrider.check_unique(w.key, w.scope) c
             WHERE w.key IS NOT NULL OR w.scope IS NOT NULL
             ORDER BY c.subscription COLLATE "C", w.key COLLATE "C", w.n LOOP
        IF before IS DISTINCT FROM ARRAY[u.subscription, u.key] THEN
            got := postrider.lock_unique(u.subscription, u.key);
            IF got.outcome <> 'new' THEN
                ids[u.n] := got.id;
            END IF;
            before := ARRAY[u.subscription, u.key];
            holder := u.n;
        ELSIF got.outcome = 'new' THEN
            same[u.n] := holder;
        ELSE
            ids[u.n] := got.id;
        END IF;
        IF got.outcome = 'again' THEN
            INSERT INTO postrider.unique_again AS a VALUES (u.subscription, u.key, (enqueue_many.topic[u.n])::postrider.topic, enqueue_many.key[u.n], payload[u.n], body[u.n], headers[u.n], deliver_at[u.n], coalesce(priority[u.n], 2))
            ON CONFLICT ON CONSTRAINT unique_again_pkey DO UPDATE SET (topic, key, payload, body, headers, deliver_at, priority)
                = (excluded.topic, excluded.key, excluded.payload, excluded.body, excluded.headers, excluded.deliver_at, excluded.priority);
        END IF;
    END LOOP;
    FOR made IN
        WITH wanted AS MATERIALIZED (
            SELECT g FROM generate_series(1, total) g WHERE ids[g] IS NULL AND same[g] IS NULL ORDER BY g
        ), fresh AS (
            INSERT INTO postrider.outbox (topic, key, payload, body, headers, deliver_at, priority)
            SELECT enqueue_many.topic[g], enqueue_many.key[g], payload[g], body[g], headers[g], deliver_at[g], postrider.checked_priority(priority[g])
            FROM wanted ORDER BY g RETURNING id, created_at, segment, key
        )
        SELECT w.g, f.* FROM (SELECT g, row_number() OVER (ORDER BY g) AS at FROM wanted) w
        JOIN (SELECT *, row_number() OVER (ORDER BY id) AS at FROM fresh) f USING (at)
    LOOP
        ids[made.g] := made.id;
        IF unique_key[made.g] IS NOT NULL THEN
            PERFORM postrider.hold_unique(c.subscription, unique_key[made.g], c.lasts, made.id, made.created_at, made.segment, made.key)
            FROM postrider.check_unique(unique_key[made.g], unique_scope[made.g]) c;
        END IF;
        same[made.g] := 0;
    END LOOP;
    FOR i IN 1..total LOOP
        id := coalesce(ids[i], ids[same[i]]);
        duplicate := same[i] IS DISTINCT FROM 0;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.enqueue_many IS 'Inserts messages, those without a unique key or whose unique key is free, and returns for each, in their order, its id, or that of the message that has its key and that it is a duplicate of that one.';

CREATE FUNCTION postrider.enqueue_unique(topic text, payload jsonb, unique_key text, unique_scope text, key text DEFAULT NULL, headers jsonb DEFAULT NULL,
        deliver_at timestamptz DEFAULT NULL, priority integer DEFAULT 2, body bytea DEFAULT NULL, OUT id bigint, OUT duplicate boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    PERFORM postrider.check_unique(unique_key, unique_scope);
    SELECT m.id, m.duplicate INTO STRICT id, duplicate FROM postrider.enqueue_many(ARRAY[topic], ARRAY[key], ARRAY[payload], ARRAY[body], ARRAY[headers],
        ARRAY[deliver_at], ARRAY[postrider.checked_priority(priority)], ARRAY[unique_key], ARRAY[unique_scope]) m;
END $$;
COMMENT ON FUNCTION postrider.enqueue_unique IS 'Inserts a message unless another one has its unique key, which names the effect that is wanted once: while that is pending in one subscription (unique_scope pending:NAME), or for a time since it was enqueued (such as 1h). Returns its id, or that of the other one and duplicate. A duplicate of a message that may be out already is enqueued once that one is settled.';

-- By relays, beside their saves. What somebody has locked is for the next time.
CREATE FUNCTION postrider.enqueue_again(most integer DEFAULT 100) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    a     postrider.unique_again;
    k     postrider.unique_keys;
    stands text;
    made  record;
    n     bigint := 0;
BEGIN
    FOR a IN SELECT * FROM postrider.unique_again ORDER BY subscription, unique_key LOOP
        EXIT WHEN n >= most;
        SELECT * INTO k FROM postrider.unique_keys u WHERE u.subscription = a.subscription AND u.key = a.unique_key FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        stands := postrider.unique_standing(k);
        CONTINUE WHEN stands IN ('pending', 'out');
        -- As it is now that the key is locked.
        DELETE FROM postrider.unique_again d WHERE d.subscription = a.subscription AND d.unique_key = a.unique_key RETURNING * INTO a;
        CONTINUE WHEN NOT FOUND OR stands NOT IN ('settled', 'dead'); -- who has given that one up wants this one no more
        INSERT INTO postrider.outbox (topic, key, payload, body, headers, deliver_at, priority)
        VALUES (a.topic, a.key, a.payload, a.body, a.headers, a.deliver_at, a.priority) RETURNING id, created_at, segment INTO made;
        IF stands = 'dead' THEN
            INSERT INTO postrider.unique_formers VALUES (k.subscription, k.id, k.created_at, k.key) ON CONFLICT DO NOTHING;
        END IF;
        PERFORM postrider.hold_unique(k.subscription, k.key, NULL, made.id, made.created_at, made.segment, a.key);
        n := n + 1;
    END LOOP;
    RETURN n;
END $$;
COMMENT ON FUNCTION postrider.enqueue_again IS 'Enqueues duplicates whose first message may have been out when they came, and is settled by now. Relays call it. Returns how many.';

CREATE FUNCTION postrider.expire_unique(after bigint, most integer, OUT at bigint, OUT looked bigint, OUT removed bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    k postrider.unique_keys;
BEGIN
    at := after; looked := 0; removed := 0;
    FOR k IN SELECT * FROM postrider.unique_keys u WHERE u.id > expire_unique.after ORDER BY u.id LIMIT most LOOP
        at := k.id; looked := looked + 1;
        CONTINUE WHEN k.until > clock_timestamp() OR k.until IS NULL AND postrider.unique_standing(k) <> 'settled'
            OR EXISTS (SELECT FROM postrider.unique_again a WHERE a.subscription = k.subscription AND a.unique_key = k.key);
        DELETE FROM postrider.unique_keys u WHERE (u.subscription, u.key) IN (
            SELECT w.subscription, w.key FROM postrider.unique_keys w WHERE w.subscription = k.subscription AND w.key = k.key AND w.id = k.id FOR UPDATE SKIP LOCKED);
        removed := removed + CASE WHEN FOUND THEN 1 ELSE 0 END;
    END LOOP;
    -- What can be redriven no more needs no key again.
    IF looked < most THEN
        DELETE FROM postrider.unique_formers f WHERE NOT EXISTS (SELECT FROM postrider.parked p
            WHERE p.subscription = f.subscription AND p.id = f.id AND p.created_at = f.created_at);
    END IF;
END $$;
COMMENT ON FUNCTION postrider.expire_unique IS 'Removes unique keys that are free again, looking at so many from an id on. Relays call it.';

-- Keys first: who enqueues holds them until his transaction ends, and nobody is to wait for a subscription meanwhile.
CREATE FUNCTION postrider.take_unique_again(subscription text, ids bigint[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '10s' AS $$
DECLARE
    w record;
    k postrider.unique_keys;
BEGIN
    IF NOT EXISTS (SELECT FROM postrider.unique_keys u WHERE u.subscription = take_unique_again.subscription) THEN
        RETURN;
    END IF;
    FOR w IN
        SELECT coalesce(f.key, u.key) AS key, p.id, p.created_at FROM postrider.parked p
        LEFT JOIN postrider.unique_formers f ON f.subscription = p.subscription AND f.id = p.id AND f.created_at = p.created_at
        LEFT JOIN postrider.unique_keys u ON u.subscription = p.subscription AND u.id = p.id AND u.created_at = p.created_at
        WHERE p.subscription = take_unique_again.subscription AND (f.key IS NOT NULL OR u.key IS NOT NULL)
          AND CASE WHEN ids IS NULL THEN p.state = 'dead' ELSE p.id = ANY (ids) AND p.state IN ('dead', 'discarded') END
        ORDER BY 1, 2
    LOOP
        SELECT * INTO k FROM postrider.unique_keys u WHERE u.subscription = take_unique_again.subscription AND u.key = w.key FOR UPDATE;
        CONTINUE WHEN NOT FOUND OR (k.id, k.created_at) = (w.id, w.created_at);
        IF postrider.unique_standing(k) IN ('pending', 'out') THEN
            RAISE EXCEPTION 'message % cannot be redriven: its unique key "%" is taken by message %, which "%" has not settled yet', w.id, w.key, k.id, subscription
                USING ERRCODE = '23505', HINT = 'Wait until that is delivered, cancel or discard it, or redrive others by their ids.';
        END IF;
        UPDATE postrider.unique_keys u SET id = w.id, created_at = w.created_at, mark = NULL,
            segment = coalesce((SELECT o.segment FROM postrider.outbox o WHERE o.id = w.id AND o.created_at = w.created_at), 0)
        WHERE u.subscription = k.subscription AND u.key = k.key;
        DELETE FROM postrider.unique_formers f WHERE f.subscription = k.subscription AND f.id = w.id AND f.created_at = w.created_at;
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.take_unique_again IS 'Messages that are redriven take their unique keys again; an error if another message has one of them by now.';

CREATE OR REPLACE FUNCTION postrider.redrive(subscription text, ids bigint[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM postrider.take_unique_again(subscription, ids);
    IF NOT postrider.lock_subscription(subscription) THEN
        RETURN 0;
    END IF;
    UPDATE postrider.parked p SET state = 'retrying', attempts = 0, due = now(), updated_at = now()
    WHERE p.subscription = redrive.subscription
      AND CASE WHEN ids IS NULL THEN p.state = 'dead'
               ELSE p.id = ANY (ids) AND p.state IN ('dead', 'retrying', 'leased', 'failed', 'discarded') END;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE postrider.subscriptions s SET version = s.version + 1 WHERE s.name = redrive.subscription AND n > 0;
    RETURN n;
END $$;
COMMENT ON FUNCTION postrider.redrive IS 'Tries parked messages again from their first attempt: all dead ones, or those with the given ids, also those that wait for a callback: callbacks for the attempt before come too late then. An error if another message has taken the unique key of one of them. Returns how many.';

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'postrider'::regnamespace AND p.proacl IS NULL LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;
