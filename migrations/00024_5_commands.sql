SET LOCAL search_path = pg_catalog, pg_temp;

-- Commands know both kinds of subscriptions: those with cursors, for relays, and those with shards, for workers in SQL. What they do with
-- cursors stays what it is, under another name.
DO $$
DECLARE
    f    record;
    text text;
BEGIN
    FOR f IN SELECT * FROM (VALUES ('lock_subscription', 'lock_cursors'), ('replay', 'replay_cursors'), ('rebase', 'rebase_cursors')) v (was, becomes) LOOP
        text := pg_get_functiondef((SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'postrider'::regnamespace AND p.proname = f.was));
        -- Its head, and where it names its parameters.
        EXECUTE replace(replace(text, 'postrider.' || f.was || '(', 'postrider.' || f.becomes || '('), f.was || '.', f.becomes || '.');
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.lock_cursors IS 'Locks a subscription and its cursors; false if there is none. The error of one who waits in vain names whom it waited for.';
COMMENT ON FUNCTION postrider.replay_cursors IS 'postrider.replay, for a subscription that a relay delivers.';
COMMENT ON FUNCTION postrider.rebase_cursors IS 'postrider.rebase, for subscriptions that relays deliver, and for what all have in common.';

CREATE OR REPLACE FUNCTION postrider.lock_subscription(name text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF NOT postrider.lock_cursors(name) THEN
        RETURN false;
    END IF;
    PERFORM postrider.lock_shards(name);
    RETURN true;
END $$;
COMMENT ON FUNCTION postrider.lock_subscription IS 'Locks a subscription, its cursors and its shards; false if there is none. The error of one who waits in vain names whom it waited for.';

CREATE OR REPLACE FUNCTION postrider.unsubscribe(name text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    -- Shards first: a worker that parks something needs the subscription.
    PERFORM FROM postrider.subscriptions s WHERE s.name = unsubscribe.name FOR NO KEY UPDATE;
    PERFORM postrider.lock_shards(unsubscribe.name);
    DELETE FROM postrider.subscriptions s WHERE s.name = unsubscribe.name;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.unsubscribe IS 'Removes a subscription, its cursor or shards, and what is parked; false if there is none. On the command line: postrider subs remove.';

CREATE OR REPLACE FUNCTION postrider.replay(name text, start text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    start_base pg_snapshot;
    settled    pg_snapshot;
BEGIN
    IF NOT EXISTS (SELECT FROM postrider.shard_settings t WHERE t.subscription = replay.name) THEN
        RETURN postrider.replay_cursors(name, start);
    END IF;
    PERFORM postrider.keep_segments();
    IF NOT postrider.lock_subscription(name) THEN
        RETURN false;
    END IF;
    start_base := postrider.start_snapshot(start);
    -- What is pending in some shard stays pending.
    FOR settled IN SELECT (postrider.shard_position(h.subscription, h.shard)).base FROM postrider.shards h WHERE h.subscription = replay.name AND h.shard > 0 LOOP
        IF NOT postrider.snapshot_covers(start_base, settled) THEN
            start_base := postrider.make_snapshot(least(pg_snapshot_xmax(start_base), pg_snapshot_xmax(settled)),
                ARRAY(SELECT pg_snapshot_xip(start_base) UNION SELECT pg_snapshot_xip(settled)));
        END IF;
    END LOOP;
    UPDATE postrider.subscriptions s
    SET started = CASE WHEN postrider.snapshot_covers(start_base, s.started) THEN s.started ELSE start_base END,
        version = s.version + 1, updated_at = now()
    WHERE s.name = replay.name;
    PERFORM postrider.move_shards(name, start_base);
    RETURN true;
END $$;
COMMENT ON FUNCTION postrider.replay IS 'Sets the cursor, or the shards, back (or forth) to now, earliest or a time; false if there is no such subscription. What is parked stays parked, and set back what is pending stays pending, also if it is older than the time: its transaction may have ended a moment ago.';

-- As for cursors: the ids of what each shard has settled are worked out from the transaction ids of the old cluster.
CREATE FUNCTION postrider.rebase_shards() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    foreign_ids boolean := (SELECT s.system_identifier <> (SELECT system_identifier FROM pg_control_system()) FROM postrider.source s);
    me          numeric := pg_current_xact_id()::text::numeric;
    s           postrider.subscriptions;
    c           postrider.shard_positions;
    n           smallint;
    settled     int8multirange;
BEGIN
    FOR s IN SELECT t.* FROM postrider.subscriptions t WHERE EXISTS (SELECT FROM postrider.shard_settings h WHERE h.subscription = t.name) ORDER BY t.name LOOP
        PERFORM postrider.lock_subscription(s.name);
        SELECT t.shards INTO n FROM postrider.shard_settings t WHERE t.subscription = s.name;
        FOR shard IN 1..n LOOP
            c := postrider.shard_position(s.name, shard);
            WITH message AS (
                SELECT m.id, m.xid, m.created_at, m.topic,
                       foreign_ids AND m.xid::text::numeric > coalesce(me - age(k.xmin), me) AND m.xid::text::numeric <= me - age(m.xmin) AS native
                FROM postrider.outbox m LEFT JOIN pg_constraint k ON k.conrelid = m.tableoid AND k.contype = 'p'
                WHERE postrider.shard_of(m.key, m.id, n) = shard
            ), judged AS (
                SELECT m.id, (m.id, m.created_at) IN (SELECT p.id, p.created_at FROM postrider.parked p WHERE p.subscription = s.name)
                    OR m.topic !~ postrider.topic_regex(CASE WHEN m.native THEN s.topics ELSE postrider.topics_at(s.topics, s.earlier, m.xid) END)
                    OR NOT m.native AND (
                        pg_visible_in_snapshot(m.xid, c.base)
                        OR pg_visible_in_snapshot(m.xid, s.started)
                        OR coalesce(c.done @> m.id AND m.created_at <= c.done_before, false)
                        OR coalesce(m.id <= c.after_id AND pg_visible_in_snapshot(m.xid, c.target), false)) AS settled
                FROM message m
            ), run AS (
                SELECT int8range(min(r.id), max(r.id), '[]') AS ids
                FROM (SELECT j.id, j.settled, count(*) FILTER (WHERE NOT j.settled) OVER (ORDER BY j.id) AS before
                      FROM (SELECT id, bool_and(judged.settled) AS settled FROM judged GROUP BY id) j) r
                WHERE r.settled GROUP BY r.before
            )
            SELECT range_agg(run.ids) INTO settled FROM run;
            c.target := NULL; c.after_id := NULL; c.leaves := NULL;
            c.done := settled; c.done_before := clock_timestamp();
            PERFORM postrider.save_position(c);
        END LOOP;
        UPDATE postrider.parked p SET taken = NULL WHERE p.subscription = s.name AND p.taken IS NOT NULL;
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.rebase_shards IS 'postrider.rebase, for what each shard has settled.';

CREATE OR REPLACE FUNCTION postrider.rebase(new_source_id boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    retained bigint;
    fresh    pg_snapshot;
    c        postrider.shard_positions;
    h        postrider.shards;
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN -- else it says so
        LOCK TABLE postrider.source IN EXCLUSIVE MODE;
        LOCK TABLE postrider.outbox IN EXCLUSIVE MODE;
        PERFORM postrider.rebase_shards();
    END IF;
    retained := postrider.rebase_cursors(new_source_id);
    fresh := postrider.snapshot_before_me();
    FOR h IN SELECT t.* FROM postrider.shards t WHERE t.shard > 0 LOOP
        c := postrider.shard_position(h.subscription, h.shard);
        c.base := fresh; c.taker := pg_current_xact_id(); c.batch := '{}'; c.parked := true;
        PERFORM postrider.save_position(c);
    END LOOP;
    DELETE FROM postrider.shard_positions p WHERE p.shard = 0;
    UPDATE postrider.source SET closing = NULL WHERE closing IS NOT NULL;
    RETURN retained;
END $$;
DO $$
BEGIN
    EXECUTE format('COMMENT ON FUNCTION postrider.rebase IS %L', 'After a copy by dump and restore, by logical replication, or by pg_upgrade into another cluster: nothing is lost or delivered twice. The source id stays, and with it the id that each message has on the wire: receivers know repeats of what the original has sent. A copy that is to live beside its original needs another one: rebase(new_source_id => true). Relays and workers are started afterwards. Run it in a transaction of its own. Returns how many messages are retained.');
END $$;

-- Who may work on a subscription: the role gets what it needs of the schema, and no more.
CREATE FUNCTION postrider.grant_worker(role text, subscription text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF to_regrole(quote_ident(role)) IS NULL THEN
        RAISE EXCEPTION 'role "%": there is none of this name', role USING ERRCODE = '42704';
    ELSIF NOT EXISTS (SELECT FROM postrider.shard_settings t WHERE t.subscription = grant_worker.subscription) THEN
        RAISE EXCEPTION 'subscription "%": there is none of this name whose sink is sql:', grant_worker.subscription USING ERRCODE = '22023';
    END IF;
    INSERT INTO postrider.shard_workers VALUES (subscription, role) ON CONFLICT DO NOTHING;
    EXECUTE format('GRANT USAGE ON SCHEMA postrider TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION postrider.take(text, integer, interval), postrider.retry(text, bigint, text, interval), '
        'postrider.kill(text, bigint, text), postrider.snooze(text, bigint, interval, text), postrider.give_back(text, bigint), postrider.uncount(text), '
        'postrider.keep_result(text, bigint, timestamptz, json) TO %I', role);
END $$;
COMMENT ON FUNCTION postrider.grant_worker IS 'Lets a role take messages of one subscription whose sink is sql:, in its own transactions. For the schema''s owner.';

CREATE FUNCTION postrider.revoke_worker(role text, subscription text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    DELETE FROM postrider.shard_workers w WHERE w.role = revoke_worker.role AND w.subscription = revoke_worker.subscription;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.revoke_worker IS 'Takes back grant_worker, for one subscription; false if the role had no right to it.';
