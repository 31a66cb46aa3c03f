-- +goose Up

SET LOCAL search_path = pg_catalog, pg_temp;

-- Whoever may connect may take any advisory lock. What keeps starts and the emptying of segments apart is a lock on a table that only
-- the schema's owner can lock, taken on behalf of those who may call these functions, and never waited for without end.

-- Who holds a lock on a table of this schema: sessions, and prepared transactions, which have no process. Its owner's rights show
-- since when, which PostgreSQL tells few.
-- +goose StatementBegin
CREATE FUNCTION postrider.lock_holders(relation text, OUT pid integer, OUT gid text, OUT role text, OUT application text,
                                       OUT mode text, OUT state text, OUT since timestamptz)
    RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
-- +goose StatementEnd

-- The same as text for an error, of those alone whose lock is in the way.
-- +goose StatementBegin
CREATE FUNCTION postrider.describe_holders(relation text, modes text[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(
        CASE WHEN h.pid IS NULL THEN format('the prepared transaction "%s" of role "%s"', h.gid, h.role)
             ELSE format('process %s (role "%s", application "%s")', h.pid, h.role, h.application) END
        || coalesce(' since ' || to_char(h.since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''), ', '),
        'somebody who has let go of it meanwhile')
    FROM postrider.lock_holders(describe_holders.relation) h WHERE h.mode = ANY (describe_holders.modes)
$$;
-- +goose StatementEnd

-- Segments are not emptied until the calling transaction has ended. Many may hold them at once.
-- +goose StatementBegin
CREATE FUNCTION postrider.keep_segments() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $$
BEGIN
    LOCK TABLE postrider.source IN ROW EXCLUSIVE MODE;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'the segments of the outbox have been locked for longer than 10 seconds by %', postrider.describe_holders('source',
        '{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}') USING ERRCODE = '55P03';
END $$;
-- +goose StatementEnd

-- Nobody chooses a start among the rows until the calling transaction has ended. It does not wait: false means not now.
-- +goose StatementBegin
CREATE FUNCTION postrider.lock_segments() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE postrider.source IN SHARE ROW EXCLUSIVE MODE NOWAIT;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
-- +goose StatementEnd

-- As before, but it names whom it has waited for in vain. PostgreSQL shows the holder of a row's lock in the row alone: as a
-- transaction id, or as a list of them.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.lock_subscription(name text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $$
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
-- +goose StatementEnd

-- A row's xmax as transaction ids: it does not tell whether it is one, or a multixact, whose number may be no valid one.
-- +goose StatementBegin
CREATE FUNCTION postrider.row_lockers(xmax xid) RETURNS SETOF xid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN NEXT row_lockers.xmax;
    RETURN QUERY SELECT m.xid FROM pg_get_multixact_members(row_lockers.xmax) m;
EXCEPTION WHEN OTHERS THEN
    RETURN;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.start_snapshot(start text) RETURNS pg_snapshot
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
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
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.replay(name text, start text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
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
    SET base = start_base, target = NULL, after_id = NULL, done = '{}', epoch = c.epoch + 1
    WHERE c.subscription = replay.name;
    RETURN true;
END $$;
-- +goose StatementEnd

-- From a second to ten years: the ring takes 16 segments' time to come round, and what is in the current one is not emptied. The
-- segment's number is never negative, whatever the server's clock says: '& 15' is the remainder that '%' is not before 1970.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.set_segment_length(length interval) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seconds numeric := extract(epoch FROM length);
BEGIN
    IF seconds IS NULL OR seconds < 1 OR seconds > 315576000 OR seconds <> floor(seconds) THEN
        RAISE EXCEPTION 'segment length %: must be a whole number of seconds, from 1 second to 10 years', coalesce(length::text, 'null')
            USING ERRCODE = '22023';
    END IF;
    -- First, so that of two who come at once one waits for the other.
    UPDATE postrider.source SET segment_seconds = seconds;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION postrider.current_segment() RETURNS smallint LANGUAGE sql STABLE PARALLEL SAFE '
        'RETURN (floor(date_part(''epoch'', statement_timestamp()) / %s)::bigint & 15)::smallint', seconds::bigint);
END $$;
-- +goose StatementEnd

SELECT postrider.set_segment_length(make_interval(secs => least(greatest(segment_seconds, 1), 315576000))) FROM postrider.source;

-- Is the segment old enough to be emptied? The newest row tells: neither current nor next, and past the retention. A time that has not
-- come yet tells nothing (the clock was wrong, or a role that may do so has set it): then the ring does, in which a segment
-- that was current is not current again for fourteen turns.
-- +goose StatementBegin
CREATE FUNCTION postrider.segment_is_old(segment smallint, retention interval) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    newest timestamptz;
    turns  integer := (postrider.current_segment() - segment) & 15;
BEGIN
    IF turns IN (0, 15) THEN
        RETURN false;
    END IF;
    SELECT o.created_at INTO newest FROM postrider.outbox o WHERE o.segment = segment_is_old.segment ORDER BY o.id DESC LIMIT 1;
    IF newest IS NULL OR newest <= clock_timestamp() THEN
        RETURN coalesce(newest < clock_timestamp() - retention, false);
    END IF;
    RETURN (turns - 1) * (SELECT s.segment_seconds FROM postrider.source s) >= extract(epoch FROM retention);
END $$;
-- +goose StatementEnd

-- After a copy by dump and restore, by logical replication, or by pg_upgrade into another cluster: the ids of what each
-- subscription has settled are worked out from the transaction ids of the old one, which are then replaced. Nothing is lost or
-- delivered twice. The source id stays, and with it the id that each message has on the wire: receivers know repeats of what the
-- original has sent. A copy that is to live beside its original needs another one: rebase(new_source_id => true). Applications wait
-- meanwhile; relays are started afterwards. Run it in a transaction of its own. Returns how many messages are retained.
DROP FUNCTION postrider.rebase();
-- +goose StatementBegin
CREATE FUNCTION postrider.rebase(new_source_id boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    here_cluster  bigint := (SELECT system_identifier FROM pg_control_system());
    here_database oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    origin        postrider.source;
    me            numeric := pg_current_xact_id()::text::numeric;
    copied        numeric;
    fresh         pg_snapshot;
    retained      bigint;
    sub           record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'rebase needs a READ COMMITTED transaction, not %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = '25001';
    END IF;
    LOCK TABLE postrider.source IN EXCLUSIVE MODE;
    LOCK TABLE postrider.outbox IN EXCLUSIVE MODE;
    SELECT * INTO STRICT origin FROM postrider.source FOR UPDATE;
    IF (origin.system_identifier, origin.database_oid) = (here_cluster, here_database) THEN
        RAISE EXCEPTION 'nothing to rebase: the schema postrider belongs to this database' USING ERRCODE = '55000';
    END IF;
    -- Tables get their keys when a copy has been filled. Rows that are younger and carry a transaction id that can be their
    -- own were enqueued here, since; the old snapshots say nothing of them. Within one cluster ids keep their meaning.
    SELECT me - age(xmin) INTO STRICT copied FROM pg_constraint WHERE conrelid = 'postrider.outbox'::regclass AND contype = 'p';

    FOR sub IN SELECT s.name FROM postrider.subscriptions s ORDER BY s.name LOOP
        PERFORM postrider.lock_subscription(sub.name);
        WITH message AS (
            SELECT o.*, s.topics, s.earlier, s.started, c.base, c.target, c.after_id, c.done, r.regex,
                   origin.system_identifier <> here_cluster AND o.full_xid > copied AND o.full_xid <= me - o.age AS native
            FROM postrider.subscriptions s
            JOIN postrider.cursors c ON c.subscription = s.name
            CROSS JOIN LATERAL (SELECT postrider.topic_regex(s.topics) AS regex OFFSET 0) r
            CROSS JOIN (SELECT id, xid, topic, xid::text::numeric AS full_xid, age(xmin) AS age FROM postrider.outbox) o
            WHERE s.name = sub.name
        ), judged AS (
            SELECT m.id,
                   m.id IN (SELECT p.id FROM postrider.parked p WHERE p.subscription = sub.name)
                   OR m.topic !~ CASE WHEN m.native OR m.earlier = '[]' THEN m.regex
                                      ELSE postrider.topic_regex(postrider.topics_at(m.topics, m.earlier, m.xid)) END
                   OR NOT m.native AND (
                       pg_visible_in_snapshot(m.xid, m.base) OR pg_visible_in_snapshot(m.xid, m.started) OR m.done @> m.id
                       OR coalesce(m.id <= m.after_id AND pg_visible_in_snapshot(m.xid, m.target), false)) AS settled
            FROM message m
        ), run AS (
            -- Settled messages with no other in between make one range, whatever ids were never used.
            SELECT int8range(min(n.id), max(n.id), '[]') AS ids
            FROM (SELECT j.id, j.settled, count(*) FILTER (WHERE NOT j.settled) OVER (ORDER BY j.id) AS before FROM judged j) n
            WHERE n.settled GROUP BY n.before
        )
        UPDATE postrider.cursors c
        SET done = coalesce((SELECT range_agg(run.ids) FROM run), '{}'), target = NULL, after_id = NULL
        WHERE c.subscription = sub.name;
    END LOOP;

    -- Logical replication leaves sequences behind: an id must not come twice.
    PERFORM setval('postrider.outbox_id_seq', m.id)
    FROM (SELECT greatest((SELECT max(id) FROM postrider.outbox), (SELECT max(id) FROM postrider.parked)) AS id) m
    WHERE m.id > (SELECT last_value FROM postrider.outbox_id_seq);
    UPDATE postrider.outbox SET xid = pg_current_xact_id();
    GET DIAGNOSTICS retained = ROW_COUNT;
    fresh := postrider.snapshot_before_me();
    -- What is not in done is wanted, also if it was by earlier topics alone.
    UPDATE postrider.subscriptions s SET started = fresh, earlier = CASE WHEN s.earlier = '[]' THEN '[]' ELSE jsonb_build_array(
        jsonb_build_object('until', postrider.snapshot_after_me()::text, 'topics', ARRAY(
            SELECT unnest(s.topics) UNION
            SELECT jsonb_array_elements_text(e -> 'topics') FROM jsonb_array_elements(s.earlier) e))) END;
    UPDATE postrider.cursors SET base = fresh, epoch = epoch + 1, owner = NULL, trouble = NULL, saved_at = now();
    DELETE FROM postrider.relays;
    UPDATE postrider.source SET system_identifier = here_cluster, database_oid = here_database,
        id = CASE WHEN coalesce(new_source_id, false) THEN left(replace(gen_random_uuid()::text, '-', ''), 8) ELSE id END;
    RETURN retained;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION postrider.lock_holders(text), postrider.describe_holders(text, text[]), postrider.keep_segments(),
    postrider.lock_segments(), postrider.row_lockers(xid), postrider.segment_is_old(smallint, interval), postrider.rebase(boolean) FROM PUBLIC;

-- +goose Down
-- What has called the functions that go now takes the lock that was taken before. The length of segments stays within its bounds.
-- +goose StatementBegin
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOREACH f IN ARRAY ARRAY['postrider.start_snapshot(text)', 'postrider.replay(text, text)', 'postrider.rebase(boolean)']::regprocedure[] LOOP
        EXECUTE replace(replace(replace(replace(pg_get_functiondef(f),
            'PERFORM postrider.keep_segments()', 'PERFORM pg_advisory_xact_lock_shared(1886352500, 1)'),
            'LOCK TABLE postrider.source IN EXCLUSIVE MODE', 'PERFORM pg_advisory_xact_lock(1886352500, 1)'),
            'rebase(new_source_id boolean DEFAULT false)', 'rebase()'), 'coalesce(new_source_id, false)', 'false');
    END LOOP;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.lock_subscription(name text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM postrider.subscriptions s WHERE s.name = lock_subscription.name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM FROM postrider.cursors c WHERE c.subscription = lock_subscription.name FOR UPDATE;
    RETURN true;
END $$;
-- +goose StatementEnd
DROP FUNCTION postrider.lock_holders(text), postrider.describe_holders(text, text[]), postrider.keep_segments(),
    postrider.lock_segments(), postrider.row_lockers(xid), postrider.segment_is_old(smallint, interval), postrider.rebase(boolean);
REVOKE ALL ON FUNCTION postrider.rebase() FROM PUBLIC;
