SET LOCAL search_path = pg_catalog, pg_temp;

-- Workers come for the messages of a subscription whose sink is sql:, each inside its own transaction: no relay delivers them. Keys are
-- spread over shards. A worker locks one, moves its position and commits both with what it has done. What is locked is a row that nobody
-- ever updates, and a position is the newest row of a table that is only added to, so that a lock or a position leaves no chain of dead
-- versions that a transaction held open would make longer and longer.

-- Stable only in what PostgreSQL makes of encodings: bytes are taken as they are stored.
CREATE FUNCTION postrider.shard_of(key text, id bigint, shards integer) RETURNS smallint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN shards = 1 THEN 1
                WHEN key IS NULL THEN 1 + abs(id % shards)
                ELSE 1 + get_byte(sha256(convert_to(key, 'SQL_ASCII')), 0) % shards END::smallint;
COMMENT ON FUNCTION postrider.shard_of IS 'Which of so many shards a message belongs to, from 1: by the first byte of the SHA-256 of its key, without a key by its id.';

CREATE TABLE postrider.shard_settings (
    subscription  text PRIMARY KEY REFERENCES postrider.subscriptions (name) ON DELETE CASCADE,
    version       bigint   NOT NULL,
    active        boolean  NOT NULL,
    shards        smallint NOT NULL,
    topics        text[]   NOT NULL,
    regex         text,
    earlier       jsonb,
    earlier_until xid8,
    max_attempts  integer  NOT NULL,
    holds         boolean  NOT NULL,
    waits         interval[] NOT NULL,
    longest_wait  interval NOT NULL,
    max_parked    integer  NOT NULL,
    max_scheduled integer  NOT NULL
) WITH (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);
COMMENT ON TABLE postrider.shard_settings IS 'Of each subscription that workers take from in SQL, what they need to know, worked out once for each change.';
COMMENT ON COLUMN postrider.shard_settings.subscription IS 'The subscription.';
COMMENT ON COLUMN postrider.shard_settings.version IS 'Of the subscription.';
COMMENT ON COLUMN postrider.shard_settings.active IS 'Not paused.';
COMMENT ON COLUMN postrider.shard_settings.shards IS 'How many shards it has.';
COMMENT ON COLUMN postrider.shard_settings.topics IS 'Its patterns.';
COMMENT ON COLUMN postrider.shard_settings.regex IS 'Its patterns as a regular expression; null if they match every topic.';
COMMENT ON COLUMN postrider.shard_settings.earlier IS 'Its earlier topics; null if there are none.';
COMMENT ON COLUMN postrider.shard_settings.earlier_until IS 'Its earlier topics apply to no transaction from this one on.';
COMMENT ON COLUMN postrider.shard_settings.max_attempts IS 'Attempts before a message is dead.';
COMMENT ON COLUMN postrider.shard_settings.holds IS 'A dead letter holds its key.';
COMMENT ON COLUMN postrider.shard_settings.waits IS 'The waits before the second attempt, the third and so on; after the last one they double up to longest_wait.';
COMMENT ON COLUMN postrider.shard_settings.longest_wait IS 'The longest wait between two attempts.';
COMMENT ON COLUMN postrider.shard_settings.max_parked IS 'Retrying and held messages of one shard at which no more are taken from the log.';
COMMENT ON COLUMN postrider.shard_settings.max_scheduled IS 'Messages of one shard that wait beside the log for their time; further ones stay in it.';

CREATE TABLE postrider.shards (
    subscription text NOT NULL REFERENCES postrider.subscriptions (name) ON DELETE CASCADE,
    shard        smallint NOT NULL,
    tries        regclass,
    PRIMARY KEY (subscription, shard)
) WITH (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);
COMMENT ON TABLE postrider.shards IS 'What a worker locks: one row per shard, never updated. Shard 0 is locked by whoever notes that nothing is new for any of them.';
COMMENT ON COLUMN postrider.shards.subscription IS 'The subscription.';
COMMENT ON COLUMN postrider.shards.shard IS 'From 1.';
COMMENT ON COLUMN postrider.shards.tries IS 'A sequence that survives a rollback: what was handed out last, and how often its worker has not come to COMMIT.';

-- A row is as good as its sequence number is high: only the newest of a shard counts. Whoever writes one deletes its predecessor.
CREATE TABLE postrider.shard_positions (
    subscription text     NOT NULL,
    shard        smallint NOT NULL,
    seq          bigint   NOT NULL,
    version      bigint   NOT NULL,
    base         pg_snapshot NOT NULL,
    target       pg_snapshot,
    after_id     bigint,
    leaves       bigint[],
    done         int8multirange,
    done_before  timestamptz,
    again        boolean NOT NULL DEFAULT false,
    parked       boolean NOT NULL DEFAULT false,
    taker        xid8    NOT NULL DEFAULT pg_current_xact_id(),
    batch        bigint[] NOT NULL DEFAULT '{}',
    deaths       integer NOT NULL DEFAULT 0,
    wary         integer NOT NULL DEFAULT 0,
    mark         bigint  NOT NULL DEFAULT 0,
    mark_before  bigint  NOT NULL DEFAULT 0,
    saved_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscription, shard, seq),
    CONSTRAINT target_goes_with_after_id CHECK ((target IS NULL) = (after_id IS NULL) AND (target IS NULL) = (leaves IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_threshold = 2000, autovacuum_analyze_scale_factor = 0);
COMMENT ON TABLE postrider.shard_positions IS 'How far each shard has come: its newest row. Settled is all that is visible in base; of the pass under way, all that is visible in target with id <= after_id.';
COMMENT ON COLUMN postrider.shard_positions.subscription IS 'The subscription.';
COMMENT ON COLUMN postrider.shard_positions.shard IS 'The shard. 0: nothing of what base sees was for any shard that has come less far and makes no pass.';
COMMENT ON COLUMN postrider.shard_positions.seq IS 'Ascends with each row of the shard.';
COMMENT ON COLUMN postrider.shard_positions.version IS 'Of the subscription.';
COMMENT ON COLUMN postrider.shard_positions.base IS 'All that this snapshot sees is settled.';
COMMENT ON COLUMN postrider.shard_positions.target IS 'Of a pass: what it looks for.';
COMMENT ON COLUMN postrider.shard_positions.after_id IS 'Of a pass: up to which id it has come.';
COMMENT ON COLUMN postrider.shard_positions.leaves IS 'Of a pass, in fours, by their first ids: a segment that has something for it, the first and the last id there, and 1 if they are found by their transactions instead of by their ids.';
COMMENT ON COLUMN postrider.shard_positions.done IS 'Ids that are settled beyond, by rebase, until base moves.';
COMMENT ON COLUMN postrider.shard_positions.done_before IS 'done counts for what was created up to here.';
COMMENT ON COLUMN postrider.shard_positions.again IS 'It was set back: what is parked comes by again.';
COMMENT ON COLUMN postrider.shard_positions.parked IS 'The shard may have exceptions.';
COMMENT ON COLUMN postrider.shard_positions.taker IS 'The transaction that wrote the row.';
COMMENT ON COLUMN postrider.shard_positions.batch IS 'The ids that it has taken, in their order.';
COMMENT ON COLUMN postrider.shard_positions.deaths IS 'How often a worker has died of the first one of these, alone.';
COMMENT ON COLUMN postrider.shard_positions.wary IS 'How many messages are still to be taken one by one: a worker died of one of them.';
COMMENT ON COLUMN postrider.shard_positions.mark IS 'What the shard''s sequence says if nobody has died since.';
COMMENT ON COLUMN postrider.shard_positions.mark_before IS 'What it said before.';
COMMENT ON COLUMN postrider.shard_positions.saved_at IS 'When the row was written.';

ALTER TABLE postrider.parked ADD COLUMN taken xid8;
COMMENT ON COLUMN postrider.parked.taken IS 'The transaction of the worker that last took it in SQL.';

-- Shards count from 1, so that what relays park is in none of these.
CREATE INDEX parked_by_shard ON postrider.parked (subscription, shard, due, id) WHERE shard > 0 AND state IN ('retrying', 'held', 'scheduled');
CREATE INDEX parked_by_key ON postrider.parked (subscription, key, id, created_at) WHERE shard > 0 AND key IS NOT NULL AND state IN ('retrying', 'held', 'dead');
CREATE INDEX parked_completed ON postrider.parked (subscription, shard) WHERE shard > 0 AND state = 'completed';

ALTER TABLE postrider.source ADD COLUMN closing smallint;
COMMENT ON COLUMN postrider.source.closing IS 'The segment that is about to be emptied: workers, who keep what they have read until the end of their transactions, look at it for a moment only.';

CREATE SEQUENCE postrider.tries_number AS bigint;
COMMENT ON SEQUENCE postrider.tries_number IS 'Numbers the sequences of shards.';

CREATE FUNCTION postrider.sql_settings(s postrider.subscriptions) RETURNS postrider.shard_settings
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    r      postrider.shard_settings;
    wanted jsonb := s.settings;
    first  interval;
BEGIN
    first := coalesce((wanted ->> 'backoff_initial')::interval, '1 second');
    r.subscription := s.name;
    r.version := s.version;
    r.active := s.state = 'active';
    r.shards := coalesce((wanted ->> 'shards')::smallint, 4);
    IF r.shards NOT BETWEEN 1 AND 64 THEN
        RAISE EXCEPTION 'shards must be from 1 to 64' USING ERRCODE = '22023';
    END IF;
    r.topics := s.topics;
    r.regex := CASE WHEN '>' <> ALL (s.topics) THEN postrider.topic_regex(s.topics) END;
    r.earlier := nullif(s.earlier, '[]');
    r.earlier_until := (SELECT pg_snapshot_xmax((e ->> 'until')::pg_snapshot) FROM jsonb_array_elements(r.earlier) e
                        ORDER BY pg_snapshot_xmax((e ->> 'until')::pg_snapshot) DESC LIMIT 1);
    r.holds := wanted ->> 'on_dead' IS NOT DISTINCT FROM 'hold';
    IF jsonb_array_length(coalesce(wanted -> 'backoff_schedule', '[]')) > 0 THEN
        r.waits := ARRAY(SELECT jsonb_array_elements_text(wanted -> 'backoff_schedule')::interval);
        r.longest_wait := r.waits[cardinality(r.waits)];
        r.max_attempts := coalesce((wanted ->> 'max_attempts')::integer, cardinality(r.waits) + 1);
    ELSE
        r.waits := ARRAY[first];
        r.longest_wait := coalesce((wanted ->> 'backoff_max')::interval, greatest('1 hour', first));
        r.max_attempts := coalesce((wanted ->> 'max_attempts')::integer, 20);
    END IF;
    r.max_parked := coalesce((wanted ->> 'max_parked')::integer, 100000) / r.shards + 1;
    r.max_scheduled := coalesce((wanted ->> 'max_scheduled')::integer, 1000000) / r.shards + 1;
    RETURN r;
EXCEPTION WHEN data_exception OR invalid_parameter_value THEN
    RAISE EXCEPTION 'settings %: %', s.settings, SQLERRM USING ERRCODE = '22023', HINT = 'Look at `postrider settings`.';
END $$;
COMMENT ON FUNCTION postrider.sql_settings IS 'What workers need to know of a subscription, from its settings.';

CREATE FUNCTION postrider.lock_shards(subscription text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '10s' AS $$
DECLARE
    holders text;
BEGIN
    PERFORM FROM postrider.shards h WHERE h.subscription = lock_shards.subscription ORDER BY h.shard FOR UPDATE;
EXCEPTION WHEN lock_not_available THEN
    SELECT string_agg(format('shard %s by %s', w.shard, w.holder), ', ') INTO holders
    FROM postrider.shard_holders() w WHERE w.subscription = lock_shards.subscription;
    RAISE EXCEPTION 'subscription "%" has been locked for longer than 10 seconds: %', lock_shards.subscription,
        coalesce(holders, 'by somebody who has let go of it meanwhile') USING ERRCODE = '55P03',
        HINT = 'Workers hold their shards until they COMMIT or their time limit ends. Try again, or end the worker''s session with pg_terminate_backend.';
END $$;
COMMENT ON FUNCTION postrider.lock_shards IS 'Locks a subscription''s shards, so that no worker is at work. The error of one who waits in vain names whom it waited for.';

-- PostgreSQL shows the holder of a row's lock in the row alone. A prepared transaction holds what it has locked until it is ended.
CREATE FUNCTION postrider.shard_holders(OUT subscription text, OUT shard smallint, OUT pid integer, OUT gid text, OUT holder text, OUT since timestamptz)
    RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT h.subscription, h.shard, l.pid, p.gid,
           CASE WHEN l.pid IS NULL THEN format('the prepared transaction "%s" of role "%s"', p.gid, p.owner)
                ELSE format('process %s (role "%s", application "%s", %s)', l.pid, a.usename, a.application_name, a.state) END
           || coalesce(' since ' || to_char(coalesce(a.xact_start, p.prepared) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''),
           coalesce(a.xact_start, p.prepared)
    FROM postrider.shards h
    CROSS JOIN LATERAL postrider.row_lockers(h.xmax) x
    JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = x AND l.granted AND l.mode = 'ExclusiveLock'
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = x
    WHERE h.xmax <> '0' AND l.pid IS DISTINCT FROM pg_backend_pid() AND h.shard > 0
    ORDER BY 1, 2
$$;
COMMENT ON FUNCTION postrider.shard_holders IS 'Which workers are at work on which shards: sessions, and prepared transactions, which have no process.';

CREATE FUNCTION postrider.move_shards(subscription text, base pg_snapshot DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = off SET jit = off AS $$
DECLARE
    c postrider.shard_positions;
BEGIN
    PERFORM postrider.lock_shards(move_shards.subscription);
    FOR c IN
        SELECT p.* FROM postrider.shards h CROSS JOIN LATERAL (
            SELECT k.* FROM postrider.shard_positions k WHERE k.subscription = h.subscription AND k.shard = h.shard ORDER BY k.seq DESC LIMIT 1) p
        WHERE h.subscription = move_shards.subscription
    LOOP
        DELETE FROM postrider.shard_positions k WHERE k.subscription = c.subscription AND k.shard = c.shard AND k.seq = c.seq;
        CONTINUE WHEN c.shard = 0;
        IF base IS NULL THEN
            INSERT INTO postrider.shard_positions (subscription, shard, seq, version, base, target, after_id, leaves, done, done_before,
                again, parked, deaths, wary, mark, mark_before)
            SELECT c.subscription, c.shard, c.seq + 1, s.version, c.base, c.target, c.after_id, c.leaves, c.done, c.done_before,
                c.again, true, c.deaths, c.wary, c.mark, c.mark_before
            FROM postrider.subscriptions s WHERE s.name = c.subscription;
        ELSE
            INSERT INTO postrider.shard_positions (subscription, shard, seq, version, base, again, parked, mark, mark_before)
            SELECT c.subscription, c.shard, c.seq + 1, s.version, move_shards.base, true, true, c.mark, c.mark_before
            FROM postrider.subscriptions s WHERE s.name = c.subscription;
        END IF;
    END LOOP;
    DELETE FROM postrider.parked p WHERE p.subscription = move_shards.subscription AND p.shard > 0 AND p.state = 'completed';
    -- What waits behind nothing any more comes forward; what still does goes back when it comes up.
    UPDATE postrider.parked p SET due = '-infinity' WHERE p.subscription = move_shards.subscription AND p.shard > 0 AND p.state = 'held'
        AND p.due IS NULL AND NOT EXISTS (
            SELECT FROM postrider.parked b WHERE b.subscription = p.subscription AND b.key = p.key AND b.shard > 0
                AND (b.id, b.created_at) < (p.id, p.created_at) AND b.state IN ('retrying', 'held', 'dead')
                AND (b.state <> 'dead' OR (SELECT s.holds FROM postrider.shard_settings s WHERE s.subscription = p.subscription)));
END $$;
COMMENT ON FUNCTION postrider.move_shards IS 'A command has changed a subscription, or what is parked of it: its shards look again, from another base if one is given.';

CREATE FUNCTION postrider.shards_follow() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    r postrider.shard_settings;
    n text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM postrider.lock_shards(OLD.name);
        FOR n IN SELECT h.tries::text FROM postrider.shards h WHERE h.subscription = OLD.name AND h.tries IS NOT NULL LOOP
            EXECUTE 'DROP SEQUENCE ' || n;
        END LOOP;
        DELETE FROM postrider.shard_positions p WHERE p.subscription = OLD.name;
        RETURN OLD;
    END IF;
    IF NEW.sink <> 'sql:' THEN
        RAISE EXCEPTION 'sink %: sql: takes nothing after the colon', NEW.sink USING ERRCODE = '22023';
    END IF;
    IF NEW.settings ->> 'priorities' = 'true' THEN
        RAISE EXCEPTION 'priorities true: a subscription with the sink sql: knows no priorities yet' USING ERRCODE = '22023',
            HINT = 'Use a subscription for each: workers take from the urgent one first.';
    END IF;
    r := postrider.sql_settings(NEW);
    IF TG_OP = 'INSERT' THEN
        INSERT INTO postrider.shard_settings VALUES (r.*);
        FOR i IN 0..r.shards LOOP
            n := format('postrider.tries_%s', nextval('postrider.tries_number'));
            IF i > 0 THEN
                EXECUTE format('CREATE SEQUENCE %s MINVALUE 0 START 0', n);
            END IF;
            INSERT INTO postrider.shards VALUES (NEW.name, i, CASE WHEN i > 0 THEN n::regclass END);
            INSERT INTO postrider.shard_positions (subscription, shard, seq, version, base) VALUES (NEW.name, i, 1, NEW.version, NEW.started);
        END LOOP;
        RETURN NEW;
    END IF;
    IF NEW.version <> OLD.version THEN
        UPDATE postrider.shard_settings t SET (version, active, topics, regex, earlier, earlier_until, max_attempts, holds, waits, longest_wait, max_parked, max_scheduled)
            = (r.version, r.active, r.topics, r.regex, r.earlier, r.earlier_until, r.max_attempts, r.holds, r.waits, r.longest_wait, r.max_parked, r.max_scheduled)
        WHERE t.subscription = NEW.name;
        PERFORM postrider.move_shards(NEW.name);
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION postrider.shards_follow IS 'A subscription''s shards come and go with it, and follow its changes.';

CREATE FUNCTION postrider.shards_locked() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    was smallint;
BEGIN
    IF (NEW.sink LIKE 'sql:%') <> (OLD.sink LIKE 'sql:%') THEN
        RAISE EXCEPTION 'sink %: it cannot become % in place, for a relay''s cursor and workers'' shards are not one another', OLD.sink, NEW.sink
            USING ERRCODE = '22023', HINT = 'Create another subscription, or remove this one first: postrider subs remove.';
    END IF;
    IF NEW.sink NOT LIKE 'sql:%' THEN
        RETURN NEW;
    END IF;
    SELECT t.shards INTO was FROM postrider.shard_settings t WHERE t.subscription = OLD.name;
    IF coalesce(NEW.settings ->> 'shards', '4') <> was::text THEN
        RAISE EXCEPTION 'shards %: "%" has % shards, which is fixed when a subscription is created', coalesce(NEW.settings ->> 'shards', '4'), OLD.name, was
            USING ERRCODE = '22023', HINT = 'Create a subscription of another name, and remove this one when its workers have emptied it.';
    END IF;
    PERFORM postrider.lock_shards(OLD.name);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION postrider.shards_locked IS 'Whatever changes a subscription waits for its workers, and what is fixed stays.';

CREATE TRIGGER shards_locked BEFORE UPDATE ON postrider.subscriptions
    FOR EACH ROW EXECUTE FUNCTION postrider.shards_locked();
CREATE TRIGGER shards_made AFTER INSERT ON postrider.subscriptions
    FOR EACH ROW WHEN (NEW.sink LIKE 'sql:%') EXECUTE FUNCTION postrider.shards_follow();
CREATE TRIGGER shards_changed AFTER UPDATE ON postrider.subscriptions
    FOR EACH ROW WHEN (NEW.sink LIKE 'sql:%') EXECUTE FUNCTION postrider.shards_follow();
CREATE TRIGGER shards_removed BEFORE DELETE ON postrider.subscriptions
    FOR EACH ROW WHEN (OLD.sink LIKE 'sql:%') EXECUTE FUNCTION postrider.shards_follow();

CREATE FUNCTION postrider.no_cursor() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN CASE WHEN EXISTS (SELECT FROM postrider.subscriptions s WHERE s.name = NEW.subscription AND s.sink LIKE 'sql:%') THEN NULL ELSE NEW END;
END $$;
COMMENT ON FUNCTION postrider.no_cursor IS 'What workers take from in SQL has positions instead of cursors: no relay ever finds one to deliver.';

CREATE TRIGGER no_cursor BEFORE INSERT ON postrider.cursors FOR EACH ROW EXECUTE FUNCTION postrider.no_cursor();

-- One more kind of destination, whatever others there are.
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('postrider.sink_is_known'::regproc), ',stdout,', ',sql,stdout,');
END $$;
