SET LOCAL search_path = pg_catalog, pg_temp;

-- A subscription with priorities that workers take from in SQL has a shard for each class of each key's shard: those of class 1 first, as many as
-- it has shards, then those of class 2 and so on. Each has a position and a sequence of its own. What a worker locks is the row of the key's shard
-- in class 1, whatever class it takes from: of a key's messages at most one is out.
ALTER TABLE postrider.shard_settings ADD COLUMN classes smallint NOT NULL DEFAULT 1;
COMMENT ON COLUMN postrider.shard_settings.classes IS '4 with priorities, each of which has shards of its own; 1 without.';
COMMENT ON COLUMN postrider.shard_settings.shards IS 'How many shards its keys are spread over.';
COMMENT ON TABLE postrider.shards IS 'What a worker locks: one row per shard, never updated; with priorities the one of its key in class 1. Shards from 0 down are locked by whoever notes that nothing is new for any of a class.';
COMMENT ON COLUMN postrider.shards.shard IS 'From 1: of class 1 as many as keys are spread over, then of class 2 and so on. From 0 down: see postrider.floor_of.';
COMMENT ON COLUMN postrider.shard_positions.shard IS 'The shard. 0, and with priorities -1, -2 and -3: nothing of what base sees was for any shard of the class that has come less far and makes no pass.';

CREATE FUNCTION postrider.shard_for(s postrider.shard_settings, key text, id bigint, priority smallint) RETURNS smallint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN postrider.shard_of(key, id, s.shards) + CASE WHEN s.classes = 1 THEN 0 ELSE s.shards * (postrider.class_of(priority) - 1) END;
COMMENT ON FUNCTION postrider.shard_for IS 'Which shard of a subscription a message belongs to: by its key, and with priorities by its class.';

CREATE FUNCTION postrider.key_shard(shard smallint, shards smallint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN shard < 1 THEN shard ELSE 1 + (shard - 1) % shards END::smallint;
COMMENT ON FUNCTION postrider.key_shard IS 'The shard whose lock is that of a shard: that of the same keys in class 1.';

CREATE FUNCTION postrider.shard_class(shard smallint, shards smallint) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 1 + (shard - 1) / shards;
COMMENT ON FUNCTION postrider.shard_class IS 'The class of a shard: 1 where there are no priorities.';

CREATE FUNCTION postrider.floor_of(shard smallint, shards smallint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((1 - shard) / shards)::smallint;
COMMENT ON FUNCTION postrider.floor_of IS 'The shard, from 0 down, whose position is that of all shards of a class that nothing is new for.';

CREATE OR REPLACE FUNCTION postrider.sql_settings(s postrider.subscriptions) RETURNS postrider.shard_settings
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
    r.classes := CASE WHEN wanted ->> 'priorities' = 'true' THEN 4 ELSE 1 END;
    r.topics := s.topics;
    r.regex := postrider.topic_regex(s.topics);
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

CREATE OR REPLACE FUNCTION postrider.shards_locked() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    was postrider.shard_settings;
BEGIN
    IF (NEW.sink LIKE 'sql:%') <> (OLD.sink LIKE 'sql:%') THEN
        RAISE EXCEPTION 'sink %: it cannot become % in place, for a relay''s cursor and workers'' shards are not one another', OLD.sink, NEW.sink
            USING ERRCODE = '22023', HINT = 'Create another subscription, or remove this one first: postrider subs remove.';
    END IF;
    IF NEW.sink NOT LIKE 'sql:%' THEN
        RETURN NEW;
    END IF;
    SELECT * INTO was FROM postrider.shard_settings t WHERE t.subscription = OLD.name;
    IF coalesce(NEW.settings ->> 'shards', '4') <> was.shards::text THEN
        RAISE EXCEPTION 'shards %: "%" has % shards, which is fixed when a subscription is created', coalesce(NEW.settings ->> 'shards', '4'), OLD.name, was.shards
            USING ERRCODE = '22023', HINT = 'Create a subscription of another name, and remove this one when its workers have emptied it.';
    END IF;
    IF was.classes > 1 AND NEW.settings ->> 'priorities' IS DISTINCT FROM 'true' THEN
        RAISE EXCEPTION 'priorities %: "%" has them, and one whose sink is sql: keeps them', coalesce(NEW.settings ->> 'priorities', 'false'), OLD.name
            USING ERRCODE = '22023', HINT = 'Create a subscription of another name, and remove this one when its workers have emptied it.';
    END IF;
    PERFORM postrider.lock_shards(OLD.name);
    RETURN NEW;
END $$;

CREATE FUNCTION postrider.add_shards(subscription text, shard smallint, version bigint, base pg_snapshot) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    n text;
BEGIN
    IF shard > 0 THEN
        n := format('postrider.tries_%s', nextval('postrider.tries_number'));
        EXECUTE format('CREATE SEQUENCE %s MINVALUE 0 START 0', n);
    END IF;
    INSERT INTO postrider.shards VALUES (subscription, shard, n::regclass);
    INSERT INTO postrider.shard_positions (subscription, shard, seq, version, base) VALUES (subscription, shard, 1, version, base);
END $$;
COMMENT ON FUNCTION postrider.add_shards IS 'Adds a shard, with all to do that base does not see.';

-- Each class goes on from where the shard was: the same snapshots, seen by those of its class alone.
CREATE FUNCTION postrider.split_shards(s postrider.shard_settings, started pg_snapshot) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    c postrider.shard_positions;
    f postrider.shard_positions;
BEGIN
    f := postrider.shard_position(s.subscription, 0);
    FOR i IN 1 - s.classes..-1 LOOP
        PERFORM postrider.add_shards(s.subscription, i::smallint, s.version, coalesce(f.base, started));
    END LOOP;
    FOR i IN s.shards + 1..s.shards * s.classes LOOP
        PERFORM postrider.add_shards(s.subscription, i::smallint, s.version, started);
        c := postrider.shard_position(s.subscription, i);
        f := postrider.shard_position(s.subscription, postrider.key_shard(i::smallint, s.shards));
        c.base := f.base; c.target := f.target; c.after_id := f.after_id; c.leaves := f.leaves; c.done := f.done; c.done_before := f.done_before;
        c.again := f.again; c.parked := true;
        PERFORM postrider.save_position(c);
    END LOOP;
    UPDATE postrider.parked p SET shard = p.shard + s.shards * (postrider.class_of(p.priority) - 1) WHERE p.subscription = s.subscription AND p.shard > 0;
END $$;
COMMENT ON FUNCTION postrider.split_shards IS 'Gives a subscription whose shards are locked those of the classes 2 to 4.';

CREATE OR REPLACE FUNCTION postrider.shards_follow() RETURNS trigger
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
    r := postrider.sql_settings(NEW);
    IF TG_OP = 'INSERT' THEN
        INSERT INTO postrider.shard_settings VALUES (r.*);
        PERFORM postrider.add_shards(NEW.name, g::smallint, NEW.version, NEW.started) FROM generate_series(1 - r.classes, r.shards * r.classes) g;
        RETURN NEW;
    END IF;
    IF NEW.version <> OLD.version THEN
        IF r.classes > (SELECT t.classes FROM postrider.shard_settings t WHERE t.subscription = NEW.name) THEN
            PERFORM postrider.split_shards(r, NEW.started);
        END IF;
        UPDATE postrider.shard_settings t SET (version, active, topics, regex, earlier, earlier_until, max_attempts, holds, waits, longest_wait, max_parked, max_scheduled, classes)
            = (r.version, r.active, r.topics, r.regex, r.earlier, r.earlier_until, r.max_attempts, r.holds, r.waits, r.longest_wait, r.max_parked, r.max_scheduled, r.classes)
        WHERE t.subscription = NEW.name;
        PERFORM postrider.move_shards(NEW.name);
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION postrider.move_shards(subscription text, base pg_snapshot DEFAULT NULL) RETURNS void
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
        CONTINUE WHEN c.shard < 1;
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
            SELECT FROM postrider.parked b WHERE b.subscription = p.subscription AND b.key = p.key AND b.shard > 0 AND b.shard = p.shard
                AND (b.id, b.created_at) < (p.id, p.created_at) AND b.state IN ('retrying', 'held', 'dead')
                AND (b.state <> 'dead' OR (SELECT s.holds FROM postrider.shard_settings s WHERE s.subscription = p.subscription)));
END $$;
