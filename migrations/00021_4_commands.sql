SET LOCAL search_path = pg_catalog, pg_temp;

-- Locks are taken in one order by all commands and by a relay's saves: the segments, the subscription, its cursors, its parked rows. A
-- save locks the subscription as foreign keys do, which only unsubscribe has to wait for.
--
-- What keeps starts and the emptying of segments apart is a lock on a table that only the schema's owner can lock, taken on behalf of those
-- who may call these functions, and never waited for without end. (Whoever may connect may take any advisory lock.)

CREATE FUNCTION postrider.lock_holders(relation text, OUT pid integer, OUT gid text, OUT role text, OUT application text,
                                       OUT mode text, OUT state text, OUT since timestamptz)
    RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT l.pid, p.gid, coalesce(a.usename, p.owner)::text, a.application_name, l.mode, coalesce(a.state, 'prepared'),
           coalesce(a.xact_start, p.prepared)
    FROM pg_locks l
    JOIN pg_class c ON c.oid = l.relation
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction
    LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
    WHERE l.locktype = 'relation' AND l.granted AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND n.nspname = 'postrider' AND c.relname = lock_holders.relation AND l.pid IS DISTINCT FROM pg_backend_pid()
$$;
COMMENT ON FUNCTION postrider.lock_holders IS 'Who holds a lock on a table of this schema: sessions, and prepared transactions, which have no process. Its owner''s rights show since when, which PostgreSQL tells few.';

CREATE FUNCTION postrider.describe_holders(relation text, modes text[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT coalesce(string_agg(
        CASE WHEN h.pid IS NULL THEN format('the prepared transaction "%s" of role "%s"', h.gid, h.role)
             ELSE format('process %s (role "%s", application "%s")', h.pid, h.role, h.application) END
        || coalesce(' since ' || to_char(h.since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''), ', '),
        'somebody who has let go of it meanwhile')
    FROM postrider.lock_holders(describe_holders.relation) h WHERE h.mode = ANY (describe_holders.modes)
$$;
COMMENT ON FUNCTION postrider.describe_holders IS 'lock_holders as text for an error, of those alone whose lock is in the way.';

CREATE FUNCTION postrider.keep_segments() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '10s' AS $$
BEGIN
    LOCK TABLE postrider.source IN ROW EXCLUSIVE MODE;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'the segments of the outbox have been locked for longer than 10 seconds by %', postrider.describe_holders('source',
        '{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}') USING ERRCODE = '55P03';
END $$;
COMMENT ON FUNCTION postrider.keep_segments IS 'Segments are not emptied until the calling transaction has ended. Many may hold them at once.';

CREATE FUNCTION postrider.lock_segments() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    LOCK TABLE postrider.source IN SHARE ROW EXCLUSIVE MODE NOWAIT;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION postrider.lock_segments IS 'Nobody chooses a start among the rows until the calling transaction has ended. It does not wait: false means not now.';

CREATE FUNCTION postrider.row_lockers(xmax xid) RETURNS SETOF xid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN NEXT row_lockers.xmax;
    RETURN QUERY SELECT m.xid FROM pg_get_multixact_members(row_lockers.xmax) m;
EXCEPTION WHEN OTHERS THEN
    RETURN;
END $$;
COMMENT ON FUNCTION postrider.row_lockers IS 'A row''s xmax as transaction ids: it does not tell whether it is one, or a multixact, whose number may be no valid one.';

-- PostgreSQL shows the holder of a row's lock in the row alone: as a transaction id, or as a list of them.
CREATE FUNCTION postrider.lock_subscription(name text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '10s' AS $$
DECLARE
    holders text;
BEGIN
    PERFORM FROM postrider.subscriptions s WHERE s.name = lock_subscription.name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM FROM postrider.cursors c WHERE c.subscription = lock_subscription.name FOR UPDATE;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    SELECT string_agg(DISTINCT format('process %s (role "%s", application "%s")%s', a.pid, a.usename, a.application_name,
               coalesce(' since ' || to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), '')), ', ')
    INTO holders
    FROM (SELECT s.xmax FROM postrider.subscriptions s WHERE s.name = lock_subscription.name
          UNION SELECT c.xmax FROM postrider.cursors c WHERE c.subscription = lock_subscription.name) r
    CROSS JOIN LATERAL postrider.row_lockers(r.xmax) x
    JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = x AND l.granted
    JOIN pg_stat_activity a ON a.pid = l.pid AND a.pid <> pg_backend_pid();
    RAISE EXCEPTION 'subscription "%" has been locked for longer than 10 seconds by %', lock_subscription.name,
        coalesce(holders, 'somebody who has let go of it meanwhile') USING ERRCODE = '55P03';
END $$;
COMMENT ON FUNCTION postrider.lock_subscription IS 'Locks a subscription and its cursors; false if there is none. The error of one who waits in vain names whom it waited for.';

CREATE FUNCTION postrider.start_snapshot(start text) RETURNS pg_snapshot
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    since timestamptz;
    first xid8;
    here  pg_snapshot;
BEGIN
    -- Segments are not emptied while a start is chosen among their rows.
    PERFORM postrider.keep_segments();
    PERFORM postrider.require_this_cluster();
    IF start = 'earliest' THEN
        RETURN '3:3:'::pg_snapshot;
    END IF;
    here := postrider.snapshot_before_me();
    IF start = 'now' THEN
        RETURN here;
    END IF;
    BEGIN
        since := start::timestamptz;
    EXCEPTION WHEN data_exception THEN
        NULL;
    END;
    IF since IS NULL THEN
        RAISE EXCEPTION 'start "%": must be now, earliest or a time such as 2026-01-31T12:00:00Z', start USING ERRCODE = '22023';
    END IF;
    SELECT o.xid INTO first FROM postrider.outbox o WHERE o.created_at >= since ORDER BY o.xid LIMIT 1;
    IF first IS NULL OR first >= pg_snapshot_xmax(here) THEN
        RETURN here;
    END IF;
    -- Transactions that run now and are older than the first message must not count as settled.
    RETURN postrider.make_snapshot(first, ARRAY(SELECT pg_snapshot_xip(here)));
END $$;
COMMENT ON FUNCTION postrider.start_snapshot IS 'Where a subscription begins: now, earliest (all that is retained) or a time.';

CREATE FUNCTION postrider.subscribe(name text, topics text[], sink text, settings jsonb DEFAULT '{}', start text DEFAULT 'now')
    RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    start_base pg_snapshot := postrider.start_snapshot(start);
    wanted     jsonb := coalesce(subscribe.settings, '{}');
    is_now     postrider.subscriptions;
BEGIN
    LOOP
        INSERT INTO postrider.subscriptions (name, topics, sink, settings, started)
        VALUES (subscribe.name, subscribe.topics, subscribe.sink, wanted, start_base)
        ON CONFLICT ON CONSTRAINT subscriptions_pkey DO NOTHING;
        IF FOUND THEN
            INSERT INTO postrider.cursors (subscription, base) VALUES (subscribe.name, start_base);
            RETURN 'created';
        END IF;
        SELECT * INTO is_now FROM postrider.subscriptions s WHERE s.name = subscribe.name FOR NO KEY UPDATE;
        EXIT WHEN FOUND; -- else it was removed in between
    END LOOP;
    -- In another order topics mean the same, and are no change.
    IF subscribe.topics @> is_now.topics AND subscribe.topics <@ is_now.topics THEN
        topics := is_now.topics;
    END IF;
    IF (is_now.topics, is_now.sink, is_now.settings) IS NOT DISTINCT FROM (subscribe.topics, subscribe.sink, wanted) THEN
        RETURN 'unchanged';
    END IF;
    UPDATE postrider.subscriptions s SET topics = subscribe.topics, sink = subscribe.sink, settings = wanted WHERE s.name = subscribe.name;
    RETURN 'changed';
END $$;
COMMENT ON FUNCTION postrider.subscribe IS 'Creates a subscription, or changes the one of this name in place: its cursor, its state and what is parked stay, and other topics apply to what comes from now on. start counts for a new one alone. Answers created, changed or unchanged.';

CREATE FUNCTION postrider.unsubscribe(name text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    DELETE FROM postrider.subscriptions s WHERE s.name = unsubscribe.name;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.unsubscribe IS 'Removes a subscription, its cursor and what is parked; false if there is none. On the command line: postrider subs remove.';

CREATE FUNCTION postrider.pause(name text, reason text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    UPDATE postrider.subscriptions s
    SET state = 'paused', paused_reason = coalesce(pause.reason, CASE WHEN s.state = 'paused' THEN s.paused_reason END)
    WHERE s.name = pause.name;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.pause IS 'Stops a subscription''s deliveries; false if there is none. Who pauses what is paused and gives no reason leaves the one that is there.';

CREATE FUNCTION postrider.resume(name text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    UPDATE postrider.subscriptions s SET state = 'active', paused_reason = NULL WHERE s.name = resume.name;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.resume IS 'Takes back pause; false if there is no such subscription.';

CREATE FUNCTION postrider.replay(name text, start text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    start_base pg_snapshot;
    settled    pg_snapshot;
BEGIN
    PERFORM postrider.keep_segments();
    IF NOT postrider.lock_subscription(name) THEN
        RETURN false;
    END IF;
    start_base := postrider.start_snapshot(start);
    SELECT c.base INTO settled FROM postrider.cursors c WHERE c.subscription = replay.name;
    IF NOT postrider.snapshot_covers(start_base, settled) THEN
        start_base := postrider.make_snapshot(least(pg_snapshot_xmax(start_base), pg_snapshot_xmax(settled)),
            ARRAY(SELECT pg_snapshot_xip(start_base) UNION SELECT pg_snapshot_xip(settled)));
    END IF;
    UPDATE postrider.subscriptions s
    SET started = CASE WHEN postrider.snapshot_covers(start_base, s.started) THEN s.started ELSE start_base END,
        version = s.version + 1, updated_at = now()
    WHERE s.name = replay.name;
    UPDATE postrider.cursors c
    SET base = start_base, target = NULL, after_id = NULL, done = '{}',
        done_ids = '{}', done_first = '{}', done_last = '{}', epoch = c.epoch + 1
    WHERE c.subscription = replay.name;
    RETURN true;
END $$;
COMMENT ON FUNCTION postrider.replay IS 'Sets the cursor back (or forth) to now, earliest or a time; false if there is no such subscription. What is parked stays parked, and set back what is pending stays pending, also if it is older than the time: its transaction may have ended a moment ago.';

CREATE FUNCTION postrider.redrive(subscription text, ids bigint[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    n bigint;
BEGIN
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
COMMENT ON FUNCTION postrider.redrive IS 'Tries parked messages again from their first attempt: all dead ones, or those with the given ids, also those that wait for a callback: callbacks for the attempt before come too late then. Returns how many.';

CREATE FUNCTION postrider.discard(subscription text, ids bigint[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    n bigint;
BEGIN
    IF NOT postrider.lock_subscription(subscription) THEN
        RETURN 0;
    END IF;
    UPDATE postrider.parked p SET state = 'discarded', due = NULL, updated_at = now()
    WHERE p.subscription = discard.subscription
      AND CASE WHEN ids IS NULL THEN p.state = 'dead' ELSE p.id = ANY (ids) AND p.state NOT IN ('completed', 'discarded') END;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE postrider.subscriptions s SET version = s.version + 1 WHERE s.name = discard.subscription AND n > 0;
    RETURN n;
END $$;
COMMENT ON FUNCTION postrider.discard IS 'Gives parked messages up for good: all dead ones, or those with the given ids unless they are completed. Their rows stay. Returns how many.';
