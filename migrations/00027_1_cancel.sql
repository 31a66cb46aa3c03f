SET LOCAL search_path = pg_catalog, pg_temp;

-- A message that is cancelled stays as a row, so that nobody delivers it: neither the pass that comes by, nor whoever takes its cursor over.
ALTER TABLE postrider.parked DROP CONSTRAINT state_is_known;
ALTER TABLE postrider.parked ADD CONSTRAINT state_is_known CHECK (state IN
    ('retrying', 'held', 'scheduled', 'leased', 'completed', 'failed', 'dead', 'discarded', 'cancelled'));
COMMENT ON COLUMN postrider.parked.state IS 'retrying: tried again when due. held: waits behind another message of its key. scheduled: waits for its time. leased: the receiver has taken it and will call back, until due. completed, failed: it has called back. dead: given up. discarded: given up for good. cancelled: not wanted any more.';
DROP INDEX postrider.parked_over;
CREATE INDEX parked_over ON postrider.parked (state, updated_at, subscription, id, created_at) WHERE state IN ('dead', 'discarded', 'cancelled');

-- A relay knows more of its messages than the tables do. So who cancels only asks; the relay takes notice of each request once, without
-- loading anything anew, and its save, which is fenced, makes it so.
CREATE TABLE postrider.cancels (
    subscription text NOT NULL,
    id           bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    segment      smallint NOT NULL,
    reason       text NOT NULL,
    waiting      boolean NOT NULL DEFAULT false,
    asked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen         bigint,
    PRIMARY KEY (subscription, id, created_at)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE postrider.cancels IS 'Messages that somebody wants cancelled and that a relay delivers, until the tables say what became of them: see postrider.cancel.';
COMMENT ON COLUMN postrider.cancels.subscription IS 'Whose delivery it is.';
COMMENT ON COLUMN postrider.cancels.id IS 'The message''s id in the outbox.';
COMMENT ON COLUMN postrider.cancels.created_at IS 'The message''s creation: ids may come again.';
COMMENT ON COLUMN postrider.cancels.segment IS 'Where in the ring the message is.';
COMMENT ON COLUMN postrider.cancels.reason IS 'Why.';
COMMENT ON COLUMN postrider.cancels.waiting IS 'Only if nobody has it: who works on it is not told.';
COMMENT ON COLUMN postrider.cancels.asked_at IS 'When it was asked for.';
COMMENT ON COLUMN postrider.cancels.seen IS 'The epoch of the owner that knows of it.';

CREATE INDEX cancels_unseen ON postrider.cancels (subscription) WHERE seen IS NULL;

DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW postrider.subscription_status AS SELECT v.*, '
        || '(SELECT count(*) FROM postrider.parked p WHERE p.subscription = v.name AND p.state = ''cancelled'') AS cancelled FROM ('
        || rtrim(pg_get_viewdef('postrider.subscription_status'::regclass), ';') || ') v';
END $$;
COMMENT ON COLUMN postrider.subscription_status.cancelled IS 'Messages that were cancelled.';
COMMENT ON COLUMN postrider.deliveries.status IS 'delivered, pending, retrying, held, scheduled, leased, dead, discarded or cancelled.';

-- Where a message stands for a subscription: as of a unique key's.
CREATE FUNCTION postrider.standing_of(subscription text, id bigint, created_at timestamptz, segment smallint) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT postrider.unique_standing(ROW($1, '', $2, $3, $4, NULL, NULL)::postrider.unique_keys)
$$;
COMMENT ON FUNCTION postrider.standing_of IS 'Where a message stands, as far as the tables tell: pending, out (or about to be), settled, or the state in which it was given up.';

-- What is cancelled in the log before a pass has come to it is left out by who looks whether what comes by is parked: until that pass is over,
-- which may be the next one.
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('postrider.end_pass'::regproc), 'c.again := false;',
        'c.again := c.again AND EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = c.subscription AND p.shard = c.shard AND p.state = ''cancelled'' AND NOT pg_visible_in_snapshot(p.xid, c.base));');
END $$;

-- Under the lock of its shard nobody has it.
CREATE FUNCTION postrider.cancel_in_shard(s postrider.shard_settings, id bigint, created_at timestamptz, segment smallint, reason text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '10s' AS $$
DECLARE
    m    record;
    p    postrider.parked;
    c    postrider.shard_positions;
    part smallint;
    stands text;
BEGIN
    SELECT o.* INTO m FROM postrider.outbox o WHERE o.segment = cancel_in_shard.segment AND o.id = cancel_in_shard.id AND o.created_at = cancel_in_shard.created_at;
    SELECT * INTO p FROM postrider.parked q WHERE q.subscription = s.subscription AND q.id = cancel_in_shard.id AND q.created_at = cancel_in_shard.created_at;
    part := coalesce(p.shard, postrider.shard_of(m.key, m.id, s.shards));
    BEGIN
        PERFORM FROM postrider.shards h WHERE h.subscription = s.subscription AND h.shard = part FOR UPDATE;
    EXCEPTION WHEN lock_not_available THEN
        RAISE EXCEPTION 'message % of "%" is with a worker for longer than 10 seconds: %', cancel_in_shard.id, s.subscription,
            coalesce((SELECT w.holder FROM postrider.shard_holders() w WHERE w.subscription = s.subscription AND w.shard = part), 'somebody who has let go of it meanwhile')
            USING ERRCODE = '55P03', HINT = 'Workers hold their shards until they COMMIT or their time limit ends.';
    END;
    stands := postrider.standing_of(s.subscription, cancel_in_shard.id, cancel_in_shard.created_at, cancel_in_shard.segment);
    IF stands NOT IN ('pending', 'out') THEN
        RETURN stands;
    END IF;
    SELECT * INTO c FROM postrider.shard_position(s.subscription, part);
    UPDATE postrider.parked q SET state = 'cancelled', due = NULL, reason = cancel_in_shard.reason, updated_at = clock_timestamp()
    WHERE q.subscription = s.subscription AND q.id = cancel_in_shard.id AND q.created_at = cancel_in_shard.created_at RETURNING * INTO p;
    IF FOUND THEN
        PERFORM postrider.release_key(s, p.key);
    ELSE
        INSERT INTO postrider.parked (subscription, shard, id, created_at, xid, state, reason, topic, key, payload, body, headers, priority)
        VALUES (s.subscription, part, m.id, m.created_at, m.xid, 'cancelled', cancel_in_shard.reason, m.topic, m.key, m.payload, m.body, m.headers, m.priority);
        c.again := true; -- so that who comes by looks whether it is parked
    END IF;
    c.parked := true;
    PERFORM postrider.save_position(c);
    RETURN 'cancelled';
END $$;
COMMENT ON FUNCTION postrider.cancel_in_shard IS 'postrider.cancel, for a subscription that workers take from in SQL.';

CREATE FUNCTION postrider.cancel(id bigint, subscription text DEFAULT NULL, reason text DEFAULT NULL) RETURNS TABLE (of_subscription text, answer text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
#variable_conflict use_column
DECLARE
    why text := postrider.clean_reason(cancel.reason, 'cancelled');
    m   record;
    s   postrider.shard_settings;
BEGIN
    IF cancel.subscription IS NOT NULL AND NOT EXISTS (SELECT FROM postrider.subscriptions q WHERE q.name = cancel.subscription) THEN
        RAISE EXCEPTION 'subscription "%": there is none of this name', left(cancel.subscription, 100) USING ERRCODE = '22023';
    END IF;
    FOR m IN
        -- Ids may come again: the newest message that has it.
        SELECT DISTINCT ON (w.name) w.name, w.created_at, w.segment FROM (
            SELECT q.name, o.created_at, o.segment FROM postrider.outbox o JOIN postrider.subscriptions q
              ON NOT pg_visible_in_snapshot(o.xid, q.started) AND o.topic ~ postrider.topic_regex(postrider.topics_at(q.topics, q.earlier, o.xid))
            WHERE o.id = cancel.id
            UNION ALL
            SELECT p.subscription, p.created_at, 0 FROM postrider.parked p WHERE p.id = cancel.id) w
        WHERE cancel.subscription IS NULL OR w.name = cancel.subscription ORDER BY w.name, w.created_at DESC, w.segment DESC
    LOOP
        of_subscription := m.name;
        SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = m.name;
        IF FOUND THEN
            answer := postrider.cancel_in_shard(s, cancel.id, m.created_at, m.segment::smallint, why);
        ELSE
            answer := postrider.standing_of(m.name, cancel.id, m.created_at, m.segment::smallint);
            IF answer IN ('pending', 'out') THEN
                INSERT INTO postrider.cancels AS c (subscription, id, created_at, segment, reason) VALUES (m.name, cancel.id, m.created_at, m.segment, why)
                ON CONFLICT ON CONSTRAINT cancels_pkey DO UPDATE SET waiting = false, seen = NULL WHERE c.waiting;
                answer := 'requested';
            END IF;
        END IF;
        answer := CASE answer WHEN 'settled' THEN 'delivered' ELSE answer END;
        RETURN NEXT;
    END LOOP;
    IF of_subscription IS NULL THEN
        RAISE EXCEPTION 'message %: no subscription%', coalesce(cancel.id::text, 'null'), coalesce(' "' || cancel.subscription || '"', '') || ' has a message of this id' USING ERRCODE = '22023';
    END IF;
END $$;
COMMENT ON FUNCTION postrider.cancel IS 'Asks for a message to be cancelled: for one subscription, or all that want it. Answers requested where a relay delivers it, and cancelled once that has been made so: then it is never delivered. delivered, dead and discarded are too late.';

CREATE FUNCTION postrider.cancel_many(subscription text, ids bigint[] DEFAULT NULL, topic text DEFAULT NULL, key text DEFAULT NULL, reason text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    n bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM postrider.subscriptions q WHERE q.name = cancel_many.subscription) THEN
        RAISE EXCEPTION 'subscription "%": there is none of this name', left(cancel_many.subscription, 100) USING ERRCODE = '22023';
    ELSIF ids IS NULL AND topic IS NULL AND key IS NULL THEN
        RAISE EXCEPTION 'cancel_many of "%": give ids, a topic or a key', cancel_many.subscription USING ERRCODE = '22023',
            HINT = 'The topic > stands for all of them.';
    ELSIF topic IS NOT NULL AND NOT postrider.valid_patterns(ARRAY[topic]) THEN
        RAISE EXCEPTION 'topic "%": must be a pattern such as orders.created, orders.* or orders.>', left(topic, 100) USING ERRCODE = '22023';
    END IF;
    IF EXISTS (SELECT FROM postrider.shard_settings t WHERE t.subscription = cancel_many.subscription) THEN
        PERFORM postrider.lock_shards(cancel_many.subscription); -- once, and nobody is at work
        SELECT count(*) INTO n FROM (
            SELECT d.id FROM postrider.deliveries d WHERE d.subscription = cancel_many.subscription AND d.status IN ('pending', 'retrying', 'held', 'scheduled')
              AND (ids IS NULL OR d.id = ANY (ids)) AND (cancel_many.topic IS NULL OR d.topic ~ postrider.topic_regex(ARRAY[cancel_many.topic]))
              AND (cancel_many.key IS NULL OR d.key = cancel_many.key) OFFSET 0) d
        CROSS JOIN LATERAL postrider.cancel(d.id, cancel_many.subscription, cancel_many.reason) a WHERE a.answer = 'cancelled';
        RETURN n;
    END IF;
    INSERT INTO postrider.cancels AS c (subscription, id, created_at, segment, reason)
    SELECT d.subscription, d.id, d.created_at, coalesce(o.segment, 0), postrider.clean_reason(cancel_many.reason, 'cancelled')
    FROM postrider.deliveries d LEFT JOIN postrider.outbox o ON o.id = d.id AND o.created_at = d.created_at
    WHERE d.subscription = cancel_many.subscription AND d.status IN ('pending', 'retrying', 'held', 'scheduled', 'leased')
      AND (ids IS NULL OR d.id = ANY (ids)) AND (cancel_many.topic IS NULL OR d.topic ~ postrider.topic_regex(ARRAY[cancel_many.topic]))
      AND (cancel_many.key IS NULL OR d.key = cancel_many.key)
    ON CONFLICT ON CONSTRAINT cancels_pkey DO UPDATE SET waiting = false, seen = NULL WHERE c.waiting;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION postrider.cancel_many IS 'postrider.cancel for the messages of a subscription that are not settled and have one of the ids, a topic that the pattern matches, and the key, as far as these are given. Returns for how many it has newly asked, or, of a subscription that workers take from in SQL, how many are cancelled.';

-- Each request once per owner, which is known by its epoch.
CREATE FUNCTION postrider.new_cancels(names text[], epochs bigint[], most integer)
    RETURNS TABLE (subscription text, id bigint, created_at timestamptz, reason text, waiting boolean)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = off SET jit = off AS $$
    WITH new AS (
        SELECT c.subscription, c.id, c.created_at, i.epoch FROM unnest(names, epochs) i (name, epoch) CROSS JOIN LATERAL (
            SELECT * FROM postrider.cancels q WHERE q.subscription = i.name AND q.seen IS NULL LIMIT most FOR NO KEY UPDATE SKIP LOCKED) c
        LIMIT most
    )
    UPDATE postrider.cancels c SET seen = new.epoch FROM new
    WHERE c.subscription = new.subscription AND c.id = new.id AND c.created_at = new.created_at
    RETURNING c.subscription, c.id, c.created_at, c.reason, c.waiting
$$;
COMMENT ON FUNCTION postrider.new_cancels IS 'Requests that nobody knows of yet, for the owner of these subscriptions, who knows of them from now on. Who takes a subscription over looks at all that there are first.';

CREATE FUNCTION postrider.end_cancels(most integer DEFAULT 1000) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = off SET jit = off AS $$
DECLARE
    n bigint;
BEGIN
    WITH looked AS MATERIALIZED ( -- by chance: what goes on waiting keeps none of the others from being looked at
        SELECT q.subscription, q.id, q.created_at, q.segment FROM postrider.cancels q
        WHERE q.asked_at < clock_timestamp() - interval '2 seconds' ORDER BY random() LIMIT most FOR UPDATE SKIP LOCKED
    ), over AS (
        SELECT q.* FROM looked q WHERE postrider.standing_of(q.subscription, q.id, q.created_at, q.segment) NOT IN ('pending', 'out')
    )
    DELETE FROM postrider.cancels c USING over WHERE c.subscription = over.subscription AND c.id = over.id AND c.created_at = over.created_at;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION postrider.end_cancels IS 'Removes requests that are carried out, or came too late. Relays call it.';

CREATE OR REPLACE FUNCTION postrider.discard(subscription text, ids bigint[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    n bigint;
BEGIN
    IF NOT postrider.lock_subscription(subscription) THEN
        RETURN 0;
    END IF;
    UPDATE postrider.parked p SET state = 'discarded', due = NULL, updated_at = now()
    WHERE p.subscription = discard.subscription
      AND CASE WHEN ids IS NULL THEN p.state = 'dead' ELSE p.id = ANY (ids) AND p.state NOT IN ('completed', 'discarded', 'cancelled') END;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE postrider.subscriptions s SET version = s.version + 1 WHERE s.name = discard.subscription AND n > 0;
    RETURN n;
END $$;
COMMENT ON FUNCTION postrider.discard IS 'Gives parked messages up for good: all dead ones, or those with the given ids unless they are completed or cancelled. Their rows stay. Returns how many.';

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'postrider'::regnamespace AND p.proacl IS NULL LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;
