-- +goose Up

SET LOCAL search_path = pg_catalog, pg_temp;

-- Does the pattern list match the topic? As in NATS: '*' is one token, a trailing '>' one or more. Patterns are turned into
-- one regular expression, so that a query over many rows compiles it once. An empty list matches no topic.
-- +goose StatementBegin
CREATE FUNCTION postrider.topic_regex(patterns text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT '^(' || coalesce(string_agg(replace(replace(
            regexp_replace(p, '([\\^$|?+.(){}\[\]])', '\\\1', 'g'), '*', '[^.]+'), '>', '.+'), '|' ORDER BY n), '') || ')$'
        FROM unnest(patterns) WITH ORDINALITY t (p, n));
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION postrider.valid_patterns(patterns text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(array_ndims(patterns) = 1, false) AND (
        SELECT bool_and(p IS NOT NULL AND length(p) <= 255
            AND p COLLATE "C" ~ '^(>|(\*|[!-#%-)+,/-=?-~-][!-)+,/-=?-~-]*)(\.(\*|[!-)+,/-=?-~-]+))*(\.>)?)$')
        FROM unnest(patterns) p);
-- +goose StatementEnd

CREATE TABLE postrider.subscriptions (
    name          text PRIMARY KEY
                  CONSTRAINT name_is_lower_case_letters_digits_dashes CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    topics        text[] NOT NULL
                  CONSTRAINT topics_are_patterns CHECK (postrider.valid_patterns(topics)),
    sink          text NOT NULL
                  CONSTRAINT sink_is_a_url CHECK (sink ~ '^[a-z][a-z0-9+.-]*:'),
    settings      jsonb NOT NULL DEFAULT '{}'
                  CONSTRAINT settings_are_an_object CHECK (jsonb_typeof(settings) = 'object'),
    state         text NOT NULL DEFAULT 'active'
                  CONSTRAINT state_is_known CHECK (state IN ('active', 'paused')),
    paused_reason text,
    -- What came before this snapshot was never meant for the subscription.
    started       pg_snapshot NOT NULL,
    -- Topics before a change apply to what their snapshot sees: [{"topics": [...], "until": "snapshot"}], oldest first.
    earlier       jsonb NOT NULL DEFAULT '[]',
    -- Raised by every change, so that the owner reloads.
    version       bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- One row per running relay. UNLOGGED on purpose: PostgreSQL empties it after a crash and on a promoted standby, which is how
-- a relay learns that snapshots in its memory may have become void.
CREATE UNLOGGED TABLE postrider.relays (
    incarnation uuid PRIMARY KEY,
    name        text NOT NULL,
    version     text NOT NULL,
    counter     bigint NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL DEFAULT now()
);

-- How far each subscription has come. Everything visible in base is settled; of the pass under way, everything visible in
-- target with id <= after_id; and the ids in done.
CREATE TABLE postrider.cursors (
    subscription text PRIMARY KEY REFERENCES postrider.subscriptions (name) ON DELETE CASCADE,
    epoch        bigint NOT NULL DEFAULT 1,
    owner        uuid,
    base         pg_snapshot NOT NULL,
    target       pg_snapshot,
    after_id     bigint,
    done         int8multirange NOT NULL DEFAULT '{}',
    -- Why deliveries stand still, when they do.
    trouble      text,
    saved_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT target_goes_with_after_id CHECK ((target IS NULL) = (after_id IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- The exceptions: deliveries that did not simply work, each with a copy of its message.
CREATE TABLE postrider.parked (
    subscription text NOT NULL REFERENCES postrider.subscriptions (name) ON DELETE CASCADE,
    id           bigint NOT NULL,
    state        text NOT NULL
                 CONSTRAINT state_is_known CHECK (state IN ('retry', 'held', 'scheduled', 'dead', 'discarded')),
    attempts     integer NOT NULL DEFAULT 0,
    due          timestamptz,
    reason       text,
    parked_at    timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL,
    topic        text NOT NULL,
    key          text,
    payload      jsonb,
    body         bytea,
    headers      jsonb,
    PRIMARY KEY (subscription, id)
);

CREATE INDEX parked_due ON postrider.parked (subscription, due) WHERE state IN ('retry', 'scheduled');

-- A snapshot in which the calling transaction itself counts as running: PostgreSQL leaves the own id out.
-- +goose StatementBegin
CREATE FUNCTION postrider.snapshot_before_me() RETURNS pg_snapshot
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    me xid8 := pg_current_xact_id();
    s  pg_snapshot := pg_current_snapshot();
BEGIN
    RETURN postrider.make_snapshot(pg_snapshot_xmax(s), array_append(ARRAY(SELECT pg_snapshot_xip(s)), me));
END $$;
-- +goose StatementEnd

-- The snapshot that sees the calling transaction too.
-- +goose StatementBegin
CREATE FUNCTION postrider.snapshot_after_me() RETURNS pg_snapshot
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    me  numeric := pg_current_xact_id()::text::numeric;
    s   pg_snapshot := pg_current_snapshot();
    top numeric := pg_snapshot_xmax(s)::text::numeric;
BEGIN
    -- Ids between the snapshot's end and the own one may be running.
    RETURN postrider.make_snapshot(greatest(top, me + 1)::text::xid8,
        ARRAY(SELECT pg_snapshot_xip(s)) || ARRAY(SELECT x::text::xid8 FROM generate_series(top, me - 1) x));
END $$;
-- +goose StatementEnd

-- The snapshot that sees every transaction below xmax but the running ones.
-- +goose StatementBegin
CREATE FUNCTION postrider.make_snapshot(xmax xid8, running xid8[]) RETURNS pg_snapshot
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT (coalesce((array_agg(x ORDER BY x))[1], make_snapshot.xmax)::text || ':' || make_snapshot.xmax::text || ':'
                || coalesce(string_agg(x::text, ',' ORDER BY x), ''))::pg_snapshot
        FROM (SELECT DISTINCT r AS x FROM unnest(running) r WHERE r < make_snapshot.xmax) q);
-- +goose StatementEnd

-- Does a see everything that b sees?
-- +goose StatementBegin
CREATE FUNCTION postrider.snapshot_covers(a pg_snapshot, b pg_snapshot) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN NOT EXISTS (SELECT FROM pg_snapshot_xip(a) x WHERE pg_visible_in_snapshot(x, b))
       AND (pg_snapshot_xmax(a) >= pg_snapshot_xmax(b)
            -- or all that lie between were running in b
            OR (SELECT count(*) FROM pg_snapshot_xip(b) x WHERE x >= pg_snapshot_xmax(a))
               = pg_snapshot_xmax(b)::text::numeric - pg_snapshot_xmax(a)::text::numeric);
-- +goose StatementEnd

-- Transaction ids of another cluster mean nothing here: what is derived from them would be wrong until they are replaced.
-- +goose StatementBegin
CREATE FUNCTION postrider.require_this_cluster() RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT system_identifier FROM postrider.source) <> (SELECT system_identifier FROM pg_control_system()) THEN
        RAISE EXCEPTION 'the schema postrider was copied into this database from another cluster'
            USING ERRCODE = '55000', HINT = 'Run postrider rebase (or SELECT postrider.rebase()) first.';
    END IF;
END $$;
-- +goose StatementEnd

-- Where a subscription begins: 'now', 'earliest' (all that is retained) or a time.
-- +goose StatementBegin
CREATE FUNCTION postrider.start_snapshot(start text) RETURNS pg_snapshot
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    since timestamptz;
    first xid8;
    here  pg_snapshot;
BEGIN
    -- Segments are not emptied while a start is chosen among their rows.
    PERFORM pg_advisory_xact_lock_shared(1886352500, 1);
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
CREATE FUNCTION postrider.subscribe(name text, topics text[], sink text, settings jsonb DEFAULT '{}', start text DEFAULT 'now')
    RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    start_base pg_snapshot := postrider.start_snapshot(start);
BEGIN
    INSERT INTO postrider.subscriptions (name, topics, sink, settings, started)
    VALUES (subscribe.name, subscribe.topics, subscribe.sink, coalesce(subscribe.settings, '{}'), start_base);
    INSERT INTO postrider.cursors (subscription, base) VALUES (subscribe.name, start_base);
END $$;
-- +goose StatementEnd

-- Locks are taken in one order by all commands and by a relay's saves: the advisory lock, the subscription, its cursor, its
-- parked rows. A save locks the subscription as foreign keys do, which only unsubscribe has to wait for.
-- Returns false if there is no such subscription.
-- +goose StatementBegin
CREATE FUNCTION postrider.lock_subscription(name text) RETURNS boolean
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

-- +goose StatementBegin
CREATE FUNCTION postrider.unsubscribe(name text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM postrider.subscriptions s WHERE s.name = unsubscribe.name;
    RETURN FOUND;
END $$;
-- +goose StatementEnd

-- Every change raises the version, so that the owner reloads. A change of topics also raises the epoch: what the owner has
-- settled by the old topics since its last save is void.
-- +goose StatementBegin
CREATE FUNCTION postrider.subscription_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.topics IS DISTINCT FROM OLD.topics THEN
        PERFORM postrider.require_this_cluster();
        UPDATE postrider.cursors c SET epoch = c.epoch + 1 WHERE c.subscription = OLD.name;
        NEW.earlier := (
            SELECT coalesce(jsonb_agg(e ORDER BY n), '[]') FROM jsonb_array_elements(OLD.earlier) WITH ORDINALITY t (e, n)
            -- Forgotten when no retained message is older: a replay may come back to those.
            WHERE EXISTS (SELECT FROM postrider.outbox o WHERE o.xid < pg_snapshot_xmax((e ->> 'until')::pg_snapshot)
                          AND pg_visible_in_snapshot(o.xid, (e ->> 'until')::pg_snapshot))
        ) || jsonb_build_object('topics', OLD.topics, 'until', postrider.snapshot_before_me()::text);
    END IF;
    IF (NEW.topics, NEW.sink, NEW.settings, NEW.state, NEW.paused_reason, NEW.started::text)
       IS DISTINCT FROM (OLD.topics, OLD.sink, OLD.settings, OLD.state, OLD.paused_reason, OLD.started::text) THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := now();
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER subscription_changed BEFORE UPDATE ON postrider.subscriptions
    FOR EACH ROW EXECUTE FUNCTION postrider.subscription_changed();

-- The topics that apply to a transaction's messages.
-- +goose StatementBegin
CREATE FUNCTION postrider.topics_at(topics text[], earlier jsonb, xid xid8) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce((
        SELECT ARRAY(SELECT jsonb_array_elements_text(e -> 'topics'))
        FROM jsonb_array_elements(earlier) WITH ORDINALITY t (e, n)
        WHERE pg_visible_in_snapshot(topics_at.xid, (e ->> 'until')::pg_snapshot) ORDER BY n LIMIT 1), topics_at.topics);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION postrider.pause(name text, reason text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE postrider.subscriptions s SET state = 'paused', paused_reason = reason WHERE s.name = pause.name;
    RETURN FOUND;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION postrider.resume(name text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE postrider.subscriptions s SET state = 'active', paused_reason = NULL WHERE s.name = resume.name;
    RETURN FOUND;
END $$;
-- +goose StatementEnd

-- Sets the cursor back (or forth) to 'now', 'earliest' or a time. What is parked stays parked, and set back what is pending stays
-- pending, also if it is older than the time: its transaction may have ended a moment ago.
-- +goose StatementBegin
CREATE FUNCTION postrider.replay(name text, start text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    start_base pg_snapshot;
    settled    pg_snapshot;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1886352500, 1);
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

-- Tries parked messages again from their first attempt: all dead ones, or those with the given ids. Returns how many.
-- +goose StatementBegin
CREATE FUNCTION postrider.redrive(subscription text, ids bigint[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    IF NOT postrider.lock_subscription(subscription) THEN
        RETURN 0;
    END IF;
    UPDATE postrider.parked p SET state = 'retry', attempts = 0, due = now(), updated_at = now()
    WHERE p.subscription = redrive.subscription
      AND CASE WHEN ids IS NULL THEN p.state = 'dead' ELSE p.id = ANY (ids) AND p.state IN ('dead', 'retry', 'discarded') END;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE postrider.subscriptions s SET version = s.version + 1 WHERE s.name = redrive.subscription AND n > 0;
    RETURN n;
END $$;
-- +goose StatementEnd

-- Gives parked messages up for good: all dead ones, or those with the given ids. Their rows stay. Returns how many.
-- +goose StatementBegin
CREATE FUNCTION postrider.discard(subscription text, ids bigint[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    IF NOT postrider.lock_subscription(subscription) THEN
        RETURN 0;
    END IF;
    UPDATE postrider.parked p SET state = 'discarded', due = NULL, updated_at = now()
    WHERE p.subscription = discard.subscription
      AND CASE WHEN ids IS NULL THEN p.state = 'dead' ELSE p.id = ANY (ids) AND p.state <> 'discarded' END;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE postrider.subscriptions s SET version = s.version + 1 WHERE s.name = discard.subscription AND n > 0;
    RETURN n;
END $$;
-- +goose StatementEnd

-- Opt-in for POSTRIDER_SOURCE=listen. A committing NOTIFY takes a cluster-wide lock until the commit has ended.
-- +goose StatementBegin
CREATE FUNCTION postrider.notify_outbox() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('postrider', '');
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- The trigger's lock waits for open transactions, and applications wait behind it: a short time at most, then it gives up.
-- +goose StatementBegin
CREATE FUNCTION postrider.enable_notify() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
    CREATE OR REPLACE TRIGGER notify_outbox AFTER INSERT ON postrider.outbox
        FOR EACH STATEMENT EXECUTE FUNCTION postrider.notify_outbox()
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION postrider.disable_notify() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
    DROP TRIGGER IF EXISTS notify_outbox ON postrider.outbox
$$;
-- +goose StatementEnd

-- After a copy by dump and restore, or by logical replication, into another database: the ids of what each subscription has
-- settled are worked out from the transaction ids of the old cluster, which are then replaced. Nothing is lost or delivered
-- twice. Applications wait meanwhile; relays are started afterwards. Run it in a transaction of its own. Returns how many messages
-- are retained.
-- +goose StatementBegin
CREATE FUNCTION postrider.rebase() RETURNS bigint
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
    PERFORM pg_advisory_xact_lock(1886352500, 1);
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
    UPDATE postrider.source SET id = left(replace(gen_random_uuid()::text, '-', ''), 8),
        system_identifier = here_cluster, database_oid = here_database;
    RETURN retained;
END $$;
-- +goose StatementEnd

-- +goose Down
SELECT postrider.disable_notify();
DROP TABLE postrider.parked, postrider.cursors, postrider.relays, postrider.subscriptions;
DROP FUNCTION postrider.topic_regex(text[]), postrider.valid_patterns(text[]), postrider.snapshot_before_me(), postrider.snapshot_after_me(),
    postrider.make_snapshot(xid8, xid8[]), postrider.snapshot_covers(pg_snapshot, pg_snapshot), postrider.require_this_cluster(),
    postrider.start_snapshot(text), postrider.lock_subscription(text), postrider.rebase(),
    postrider.subscribe(text, text[], text, jsonb, text), postrider.unsubscribe(text), postrider.subscription_changed(),
    postrider.topics_at(text[], jsonb, xid8), postrider.pause(text, text), postrider.resume(text), postrider.replay(text, text),
    postrider.redrive(text, bigint[]), postrider.discard(text, bigint[]), postrider.notify_outbox(),
    postrider.enable_notify(), postrider.disable_notify();
