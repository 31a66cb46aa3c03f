SET LOCAL search_path = pg_catalog, pg_temp;

-- The latest of several messages with one unique key may take the place of those before it. Whoever delivers one of these already goes on.

CREATE FUNCTION postrider.check_unique(unique_key text, unique_scope text, unique_replace boolean, OUT subscription text, OUT lasts interval)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF unique_replace AND unique_key IS NULL THEN
        RAISE EXCEPTION 'unique_replace true without a unique_key: give unique_key, and unique_scope pending:SUBSCRIPTION' USING ERRCODE = '22023';
    END IF;
    SELECT c.subscription, c.lasts INTO subscription, lasts FROM postrider.check_unique(unique_key, unique_scope) c;
    IF unique_replace AND lasts IS NOT NULL THEN
        RAISE EXCEPTION 'unique_replace true with unique_scope "%": must be pending:SUBSCRIPTION, for what is taken for a time may have been delivered', left(unique_scope, 100)
            USING ERRCODE = '22023';
    END IF;
END $$;
COMMENT ON FUNCTION postrider.check_unique(text, text, boolean) IS 'What a unique key, its scope and unique_replace mean, or an error that says what is wrong with them.';

-- The key's lock is held, and its row says still who had it. Nobody who enqueues waits for a worker: a shard that is in use is left alone.
CREATE FUNCTION postrider.supersede(subscription text, unique_key text, outcome text, by bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    why  text := 'superseded by message ' || by;
    k    postrider.unique_keys;
    s    postrider.shard_settings;
    part smallint;
BEGIN
    DELETE FROM postrider.unique_again a WHERE a.subscription = supersede.subscription AND a.unique_key = supersede.unique_key;
    SELECT * INTO k FROM postrider.unique_keys u WHERE u.subscription = supersede.subscription AND u.key = supersede.unique_key;
    SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = k.subscription;
    IF s.subscription IS NULL AND outcome <> 'new' THEN
        INSERT INTO postrider.cancels (subscription, id, created_at, segment, reason, waiting)
        VALUES (k.subscription, k.id, k.created_at, k.segment, why, true) ON CONFLICT DO NOTHING;
        INSERT INTO postrider.unique_formers VALUES (k.subscription, k.id, k.created_at, k.key) ON CONFLICT DO NOTHING; -- it may be out by now
        RETURN;
    END IF;
    IF s.subscription IS NULL OR outcome = 'new' AND postrider.unique_standing(k) NOT IN ('pending', 'out') THEN
        RETURN; -- there is none
    END IF;
    part := coalesce((SELECT p.shard FROM postrider.parked p WHERE p.subscription = k.subscription AND p.id = k.id AND p.created_at = k.created_at),
                     (SELECT postrider.shard_of(o.key, o.id, s.shards) FROM postrider.outbox o WHERE o.segment = k.segment AND o.id = k.id AND o.created_at = k.created_at));
    PERFORM FROM postrider.shards h WHERE h.subscription = k.subscription AND h.shard = part FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        INSERT INTO postrider.unique_formers VALUES (k.subscription, k.id, k.created_at, k.key) ON CONFLICT DO NOTHING;
        RETURN;
    END IF;
    IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN -- a position that has moved since says that all is to be repeated
        PERFORM FROM postrider.shard_positions c WHERE c.subscription = k.subscription AND c.shard = part ORDER BY c.seq DESC LIMIT 1 FOR UPDATE;
    END IF;
    PERFORM postrider.cancel_in_shard(s, k.id, k.created_at, k.segment, why);
END $$;
COMMENT ON FUNCTION postrider.supersede IS 'Cancels the message that has a unique key, unless somebody has it already, and forgets its duplicates: another one takes its place.';

CREATE FUNCTION postrider.enqueue_many(topic text[], key text[] DEFAULT NULL, payload jsonb[] DEFAULT NULL, body bytea[] DEFAULT NULL, headers jsonb[] DEFAULT NULL,
        deliver_at timestamptz[] DEFAULT NULL, priority smallint[] DEFAULT NULL, unique_key text[] DEFAULT NULL, unique_scope text[] DEFAULT NULL, unique_replace boolean[] DEFAULT NULL)
    RETURNS TABLE (id bigint, duplicate boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
#variable_conflict use_column
DECLARE
    total    integer := coalesce(cardinality(enqueue_many.topic), 0);
    ids      bigint[] := array_fill(NULL::bigint, ARRAY[total]);
    same     integer[] := array_fill(NULL::integer, ARRAY[total]); -- another one of these messages has the key
    replaced text[] := array_fill(NULL::text, ARRAY[total]);       -- it takes the key from whoever has it, which stands so
    u        record;
    before   text[];  -- the key before,
    holder   integer; -- and which of these messages has it
    got      record;
    made     record;
BEGIN
    -- In one order for all: two who want some of the same keys wait for each other in turn.
    FOR u IN SELECT w.n::integer AS n, w.key, c.subscription, c.lasts,
                    (max(w.n) FILTER (WHERE w.replace) OVER (PARTITION BY c.subscription COLLATE "C", w.key COLLATE "C"))::integer AS winner
             FROM ROWS FROM (unnest(enqueue_many.unique_key), unnest(enqueue_many.unique_scope), unnest(enqueue_many.unique_replace)) WITH ORDINALITY w (key, scope, replace, n)
             CROSS JOIN LATERAL postrider.check_unique(w.key, w.scope, w.replace) c
             WHERE w.key IS NOT NULL OR w.scope IS NOT NULL OR w.replace
             ORDER BY c.subscription COLLATE "C", w.key COLLATE "C", w.n LOOP
        IF before IS DISTINCT FROM ARRAY[u.subscription, u.key] THEN
            got := postrider.lock_unique(u.subscription, u.key);
            before := ARRAY[u.subscription, u.key];
            holder := coalesce(u.winner, CASE WHEN got.outcome = 'new' THEN u.n END);
            IF u.winner IS NOT NULL THEN
                replaced[u.winner] := got.outcome;
            END IF;
        END IF;
        IF holder IS NULL THEN
            ids[u.n] := got.id;
            IF got.outcome = 'again' THEN
                INSERT INTO postrider.unique_again AS a VALUES (u.subscription, u.key, (enqueue_many.topic[u.n])::postrider.topic, enqueue_many.key[u.n], payload[u.n], body[u.n], headers[u.n], deliver_at[u.n], coalesce(priority[u.n], 2))
                ON CONFLICT ON CONSTRAINT unique_again_pkey DO UPDATE SET (topic, key, payload, body, headers, deliver_at, priority)
                    = (excluded.topic, excluded.key, excluded.payload, excluded.body, excluded.headers, excluded.deliver_at, excluded.priority);
            END IF;
        ELSIF u.n <> holder THEN
            same[u.n] := holder;
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
        FOR u IN SELECT c.* FROM postrider.check_unique(unique_key[made.g], unique_scope[made.g]) c WHERE unique_key[made.g] IS NOT NULL LOOP
            IF replaced[made.g] IS NOT NULL THEN
                PERFORM postrider.supersede(u.subscription, unique_key[made.g], replaced[made.g], made.id);
            END IF;
            PERFORM postrider.hold_unique(u.subscription, unique_key[made.g], u.lasts, made.id, made.created_at, made.segment, made.key);
        END LOOP;
        same[made.g] := 0;
    END LOOP;
    FOR i IN 1..total LOOP
        id := coalesce(ids[i], ids[same[i]]);
        duplicate := same[i] IS DISTINCT FROM 0;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.enqueue_many(text[], text[], jsonb[], bytea[], jsonb[], timestamptz[], smallint[], text[], text[], boolean[]) IS 'Inserts messages, those without a unique key, or whose unique key is free or to be taken over, and returns for each, in their order, its id, or that of the message that has its key and that it is a duplicate of that one. Of several with one key the last one with unique_replace has it.';

CREATE FUNCTION postrider.enqueue_unique(topic text, payload jsonb, unique_key text, unique_scope text, key text DEFAULT NULL, headers jsonb DEFAULT NULL,
        deliver_at timestamptz DEFAULT NULL, priority integer DEFAULT 2, body bytea DEFAULT NULL, unique_replace boolean DEFAULT false, OUT id bigint, OUT duplicate boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    PERFORM postrider.check_unique(unique_key, unique_scope, unique_replace);
    SELECT m.id, m.duplicate INTO STRICT id, duplicate FROM postrider.enqueue_many(ARRAY[topic], ARRAY[key], ARRAY[payload], ARRAY[body], ARRAY[headers],
        ARRAY[deliver_at], ARRAY[postrider.checked_priority(priority)], ARRAY[unique_key], ARRAY[unique_scope], ARRAY[unique_replace]) m;
END $$;
COMMENT ON FUNCTION postrider.enqueue_unique(text, jsonb, text, text, text, jsonb, timestamptz, integer, bytea, boolean) IS 'Inserts a message unless another one has its unique key, which names the effect that is wanted once: while that is pending in one subscription (unique_scope pending:NAME), or for a time since it was enqueued (such as 1h). Returns its id, or that of the other one and duplicate. A duplicate of a message that may be out already is enqueued once that one is settled. With unique_replace it is inserted in any case, and the other one is cancelled unless somebody has it already.';

-- Who might call the old ones may call the new ones.
DO $$
DECLARE
    change record;
    g      record;
BEGIN
    FOR change IN SELECT o::regprocedure AS old, n::regprocedure AS new FROM (VALUES
        ('postrider.enqueue_many(text[], text[], jsonb[], bytea[], jsonb[], timestamptz[], smallint[], text[], text[])',
         'postrider.enqueue_many(text[], text[], jsonb[], bytea[], jsonb[], timestamptz[], smallint[], text[], text[], boolean[])'),
        ('postrider.enqueue_unique(text, jsonb, text, text, text, jsonb, timestamptz, integer, bytea)',
         'postrider.enqueue_unique(text, jsonb, text, text, text, jsonb, timestamptz, integer, bytea, boolean)')) f (o, n) LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', change.new);
        FOR g IN SELECT a.grantee, a.is_grantable FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a
                 WHERE p.oid = change.old AND a.grantee <> p.proowner LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s%s', change.new, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END,
                CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
        END LOOP;
        EXECUTE format('DROP FUNCTION %s', change.old);
    END LOOP;
END $$;

-- What was superseded may be out, and no row yet: its key is remembered until it is known what became of it.
CREATE OR REPLACE FUNCTION postrider.expire_unique(after bigint, most integer, OUT at bigint, OUT looked bigint, OUT removed bigint)
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
    -- What can be redriven no more needs no key again. Of what relays deliver, a request to cancel it stays as long as it is not known.
    IF looked < most THEN
        DELETE FROM postrider.unique_formers f
        WHERE NOT EXISTS (SELECT FROM postrider.parked p
            WHERE p.subscription = f.subscription AND p.id = f.id AND p.created_at = f.created_at AND p.state <> 'cancelled')
          AND NOT EXISTS (SELECT FROM postrider.cancels c WHERE c.subscription = f.subscription AND c.id = f.id AND c.created_at = f.created_at)
          AND NOT EXISTS (SELECT FROM postrider.outbox o WHERE o.id = f.id AND o.created_at = f.created_at
            AND EXISTS (SELECT FROM postrider.shard_settings t WHERE t.subscription = f.subscription)
            AND postrider.standing_of(f.subscription, f.id, f.created_at, o.segment) IN ('pending', 'out'));
    END IF;
END $$;

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'postrider'::regnamespace AND p.proacl IS NULL LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;
