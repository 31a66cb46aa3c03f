SET LOCAL search_path = pg_catalog, pg_temp;

CREATE TABLE postrider.shard_workers (
    subscription text NOT NULL REFERENCES postrider.subscriptions (name) ON DELETE CASCADE,
    role         text NOT NULL,
    PRIMARY KEY (subscription, role)
);
COMMENT ON TABLE postrider.shard_workers IS 'Which roles may work on which subscriptions in SQL, beside the schema''s owner: see postrider.grant_worker.';
COMMENT ON COLUMN postrider.shard_workers.subscription IS 'The subscription.';
COMMENT ON COLUMN postrider.shard_workers.role IS 'The role, by its name: it, and who has its rights.';

-- Whoever has connected is asked, not whose rights a function has or what SET ROLE says.
CREATE FUNCTION postrider.may_work(subscription text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF pg_has_role(session_user, current_user, 'USAGE') THEN
        IF EXISTS (SELECT FROM postrider.shard_settings t WHERE t.subscription = may_work.subscription) THEN
            RETURN true;
        ELSIF EXISTS (SELECT FROM postrider.subscriptions s WHERE s.name = may_work.subscription) THEN
            RAISE EXCEPTION 'subscription "%": a relay delivers it; workers take from those whose sink is sql:', may_work.subscription USING ERRCODE = '22023';
        END IF;
        RAISE EXCEPTION 'subscription "%": there is none of this name', left(may_work.subscription, 100) USING ERRCODE = '22023';
    ELSIF EXISTS (SELECT FROM postrider.shard_workers w JOIN postrider.shard_settings t USING (subscription)
                  WHERE w.subscription = may_work.subscription AND pg_has_role(session_user, to_regrole(quote_ident(w.role))::oid, 'USAGE')) THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION 'subscription "%": there is none that role "%" may work on', left(may_work.subscription, 100), session_user USING ERRCODE = '42501',
        HINT = 'postrider grants --worker ROLE --subscription NAME prints what is to be granted.';
END $$;
COMMENT ON FUNCTION postrider.may_work IS 'True, or an error: whether the session''s role may work on a subscription.';

CREATE FUNCTION postrider.shard_position(subscription text, shard integer) RETURNS postrider.shard_positions
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    c postrider.shard_positions;
BEGIN
    SELECT * INTO c FROM postrider.shard_positions p WHERE p.subscription = shard_position.subscription AND p.shard = shard_position.shard::smallint
    ORDER BY p.seq DESC LIMIT 1;
    RETURN c;
END $$;
COMMENT ON FUNCTION postrider.shard_position IS 'Where a shard is: its newest row.';

-- What a shard's sequence says in one number, for it is all that survives a rollback: which message came first (its id's lower 37 bits), how
-- many there were that one of them may have killed its worker (10 bits), how often the first one was handed out alone (8 bits), and a
-- number that tells one call from the next (8 bits).
CREATE FUNCTION postrider.pack_mark(turn bigint, alone bigint, size bigint, first bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((turn & 255) << 55) | (least(alone, 255) << 47) | (least(size, 1023) << 37) | (first & 137438953471);
COMMENT ON FUNCTION postrider.pack_mark IS 'A shard''s mark: see shards.tries.';

-- Which shards have something for a worker. Nothing is locked or written, unless the look itself was worth keeping.
CREATE FUNCTION postrider.shards_with_news(s postrider.shard_settings, all_c postrider.shard_positions[]) RETURNS smallint[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    news   smallint[] := '{}';
    shards  smallint[];
    bases   pg_snapshot[];
    floor   postrider.shard_positions;
    c       postrider.shard_positions;
    here    pg_snapshot := pg_current_snapshot();
    top     xid8;
    running xid8[];
    closing smallint := postrider.closing_segment();
    lim     bigint;
    looked  bigint;
    leaf    integer;
    seen    record;
BEGIN
    PERFORM postrider.require_this_cluster();
    floor := postrider.shard_position(s.subscription, 0);
    FOREACH c IN ARRAY all_c LOOP
        IF c.target IS NULL THEN
            shards := shards || c.shard;
            bases := bases || CASE WHEN floor.version = s.version AND pg_snapshot_xmax(c.base) < pg_snapshot_xmax(floor.base) THEN floor.base ELSE c.base END;
        END IF;
    END LOOP;
    IF shards IS NULL THEN
        RETURN news;
    END IF;
    top := (SELECT pg_snapshot_xmax(b) FROM unnest(bases) b ORDER BY 1 LIMIT 1);
    running := ARRAY(SELECT DISTINCT x FROM unnest(bases) b, pg_snapshot_xip(b) x WHERE pg_visible_in_snapshot(x, here));
    IF pg_snapshot_xmax(here) <= top AND running = '{}' THEN
        RETURN news; -- no transaction has ended since
    END IF;
    FOREACH lim IN ARRAY '{1000,50000}'::bigint[] LOOP -- a look as deep as the second is rare: what it finds empty is saved
        looked := 0;
        FOREACH leaf IN ARRAY postrider.filled_segments() LOOP
            IF leaf = closing THEN
                seen := postrider.peek_at_a_glance(leaf, s, shards, bases, top, running, lim - looked);
            ELSE
                seen := postrider.shard_peek(leaf, s, shards, bases, top, running, lim - looked);
            END IF;
            looked := looked + seen.looked;
            news := news || coalesce(seen.news, '{}');
            EXIT WHEN looked >= lim;
        END LOOP;
        EXIT WHEN news <> '{}' OR looked < lim;
    END LOOP;
    IF news = '{}' AND looked >= lim THEN
        RETURN shards; -- they have to look for themselves
    END IF;
    -- Whoever comes next need not look at all this again.
    IF news = '{}' AND looked >= 200 AND cardinality(shards) = s.shards AND pg_current_xact_id_if_assigned() IS NULL THEN
        PERFORM postrider.raise_floor(s, here);
    END IF;
    RETURN news;
END $$;
COMMENT ON FUNCTION postrider.shards_with_news IS 'The shards without a pass that have new messages, as far as can be told at a glance.';

CREATE FUNCTION postrider.raise_floor(s postrider.shard_settings, here pg_snapshot) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    floor postrider.shard_positions;
BEGIN
    PERFORM FROM postrider.shards h WHERE h.subscription = s.subscription AND h.shard = 0 FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    floor := postrider.shard_position(s.subscription, 0);
    IF floor.seq IS NULL OR pg_snapshot_xmax(floor.base) < pg_snapshot_xmax(here) THEN
        DELETE FROM postrider.shard_positions p WHERE p.subscription = s.subscription AND p.shard = 0 AND p.seq = floor.seq;
        INSERT INTO postrider.shard_positions (subscription, shard, seq, version, base) VALUES (s.subscription, 0, coalesce(floor.seq, 0) + 1, s.version, here);
    END IF;
END $$;
COMMENT ON FUNCTION postrider.raise_floor IS 'Notes that up to a snapshot nothing was new for a subscription.';

CREATE FUNCTION postrider.has_due(subscription text, shard integer, moment timestamptz) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = has_due.subscription AND p.shard = has_due.shard::smallint AND p.shard > 0
                   AND p.state IN ('retrying', 'held', 'scheduled') AND p.due <= moment);
END $$;
COMMENT ON FUNCTION postrider.has_due IS 'Whether a shard has an exception that is due.';

CREATE FUNCTION postrider.lock_shard(s postrider.shard_settings, moment timestamptz, round integer, tried smallint[]) RETURNS postrider.shards
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    at    integer := 1 + floor(random() * s.shards);
    all_c postrider.shard_positions[];
    c     postrider.shard_positions;
    due   smallint[] := '{}';
    going smallint[] := '{}';
    among smallint[];
    mine  postrider.shards;
BEGIN
    all_c := ARRAY(SELECT postrider.shard_position(s.subscription, g) FROM generate_series(1, s.shards) g WHERE g <> ALL (tried));
    FOREACH c IN ARRAY all_c LOOP
        IF c.target IS NOT NULL THEN
            going := going || c.shard;
        END IF;
        IF c.parked AND postrider.has_due(s.subscription, c.shard, moment) THEN
            due := due || c.shard;
        END IF;
    END LOOP;
    FOR step IN 1..3 LOOP
        among := CASE WHEN step = 1 THEN due WHEN (step = 2) = (round = 2) THEN going ELSE postrider.shards_with_news(s, all_c) END;
        CONTINUE WHEN among = '{}';
        SELECT h.* INTO mine FROM postrider.shards h WHERE h.subscription = s.subscription AND h.shard = ANY (among)
        ORDER BY (h.shard + at) % s.shards LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN mine;
END $$;
COMMENT ON FUNCTION postrider.lock_shard IS 'Locks a shard that seems to have something to do; null if there is none that is free. Those with exceptions that are due come first, then, in round 2, those with a pass under way, in round 3 those with something new.';

CREATE FUNCTION postrider.release_key(s postrider.shard_settings, key text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    first postrider.parked;
BEGIN
    SELECT * INTO first FROM postrider.parked b WHERE b.subscription = s.subscription AND b.key = release_key.key AND b.shard > 0
        AND b.state IN ('retrying', 'held', 'dead') AND (b.state <> 'dead' OR s.holds) ORDER BY b.id, b.created_at LIMIT 1;
    IF first.state = 'held' AND first.due IS NULL THEN
        UPDATE postrider.parked p SET due = '-infinity' WHERE p.subscription = first.subscription AND p.id = first.id AND p.created_at = first.created_at;
    END IF;
END $$;
COMMENT ON FUNCTION postrider.release_key IS 'What waits in a key with nothing before it waits for nothing.';

CREATE FUNCTION postrider.shard_parks(c postrider.shard_positions, r record, state text, due timestamptz, attempts integer DEFAULT 0, reason text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    INSERT INTO postrider.parked (subscription, shard, id, created_at, xid, state, attempts, due, reason, topic, key, payload, body, headers, priority)
    VALUES (c.subscription, c.shard, r.id, r.created_at, r.xid, state, attempts, due, reason, r.topic, r.key, r.payload, r.body, r.headers, r.priority);
END $$;
COMMENT ON FUNCTION postrider.shard_parks IS 'A message of the log becomes an exception of its shard.';

-- Corrupt storage, or a number that is longer as text than a text may be.
CREATE FUNCTION postrider.unreadable(payload jsonb, body bytea, headers jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    PERFORM length(payload::text), length(body::text), length(headers::text);
    RETURN NULL;
EXCEPTION WHEN data_corrupted OR internal_error OR program_limit_exceeded OR data_exception THEN
    RETURN 'it cannot be read: ' || SQLERRM;
END $$;
COMMENT ON FUNCTION postrider.unreadable IS 'Why a message''s contents cannot be read; null if they can.';

CREATE FUNCTION postrider.take_thoroughly(subscription text, max integer, time_limit interval, likely smallint)
    RETURNS TABLE (id bigint, topic text, key text, payload jsonb, body bytea, headers jsonb, created_at timestamptz, priority smallint, attempt integer)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
#variable_conflict use_column
DECLARE
    sub     text := take_thoroughly.subscription;
    most    integer := take_thoroughly.max;
    -- Once: a retry that becomes due while rows are compared would let what follows it pass.
    moment  timestamptz := clock_timestamp();
    s       postrider.shard_settings;
    h       postrider.shards;
    c       postrider.shard_positions;
    floor   postrider.shard_positions;
    tried   smallint[] := '{}';
    got     integer;
    n       bigint;
    r       record;
    f       record;
    prior   integer; -- how often a worker has died of the message that it comes to first
    suspect bigint;
    room    integer;
    reach   bigint;
    fetched integer;
    fresh   boolean;
    cap     integer;
    passed  integer;
    at      smallint;
    setting text;
    bound   text;
    going   boolean;
    exceptions boolean;
    why     text;
BEGIN
    IF most IS NULL OR most NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'max %: must be from 1 to 1000', coalesce(most::text, 'null') USING ERRCODE = '22023';
    ELSIF time_limit IS NULL OR time_limit NOT BETWEEN '100 milliseconds' AND '1 day' THEN
        RAISE EXCEPTION 'time_limit %: must be an interval from 100 milliseconds to 1 day', coalesce(time_limit::text, 'null') USING ERRCODE = '22023';
    ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'take needs a READ COMMITTED transaction, not %', upper(current_setting('transaction_isolation')) USING ERRCODE = '25001',
            HINT = 'A snapshot that is older than the lock on a shard does not show what its last worker has done.';
    END IF;
    SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = sub AND (pg_has_role(session_user, current_user, 'USAGE') OR EXISTS (
        SELECT FROM postrider.shard_workers w WHERE w.subscription = sub AND pg_has_role(session_user, to_regrole(quote_ident(w.role))::oid, 'USAGE')));
    IF NOT FOUND THEN
        PERFORM postrider.may_work(sub); -- says why not
    END IF;
    -- Bounds what is left of the transaction, unless it is bounded already: a worker that hangs holds its shard until its session ends.
    FOREACH setting IN ARRAY '{statement_timeout,idle_in_transaction_session_timeout,transaction_timeout}'::text[] LOOP
        bound := current_setting(setting, true); -- the last one is PostgreSQL 17's
        IF bound = '0' OR bound::interval > time_limit THEN
            PERFORM set_config(setting, ceil(extract(epoch FROM time_limit) * 1000)::bigint::text, true);
        END IF;
    END LOOP;
    FOR round IN CASE WHEN likely = 0 THEN 3 ELSE 1 END..3 LOOP
    FOR turn IN 1..s.shards LOOP
        IF round = 1 THEN -- by chance: where there is much to do, it is enough
            at := coalesce(likely, (1 + floor(random() * s.shards))::smallint);
            likely := NULL;
            SELECT p.target IS NOT NULL, p.parked INTO going, exceptions FROM postrider.shard_positions p
            WHERE p.subscription = sub AND p.shard = at ORDER BY p.seq DESC LIMIT 1;
            EXIT WHEN at = ANY (tried) OR NOT going AND NOT (exceptions AND postrider.has_due(sub, at, moment));
            SELECT * INTO h FROM postrider.shards q WHERE q.subscription = sub AND q.shard = at FOR NO KEY UPDATE SKIP LOCKED;
        ELSE
            h := postrider.lock_shard(s, moment, round, tried);
        END IF;
        EXIT WHEN h.shard IS NULL;
        tried := tried || h.shard;
        -- New statements: they see what the last one who held the lock has committed.
        SELECT * INTO c FROM postrider.shard_positions p WHERE p.subscription = sub AND p.shard = h.shard ORDER BY p.seq DESC LIMIT 1;
        IF c.version IS DISTINCT FROM s.version THEN -- each change of a subscription rewrites the positions, under the locks of all its shards
            SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = sub;
        END IF;
        IF NOT coalesce(s.active, false) OR c.shard IS NULL THEN
            RETURN;
        END IF;
        IF c.taker <> pg_current_xact_id() THEN
            c.batch := '{}';
            c.deaths := 0;
            c.mark_before := coalesce(pg_sequence_last_value(h.tries), 0);
            IF c.mark_before <> c.mark THEN -- who took from here has not come to COMMIT
                suspect := c.mark_before & 137438953471;
                prior := c.mark_before >> 47 & 255;
                c.wary := c.mark_before >> 37 & 1023;
            END IF;
        END IF;
        prior := coalesce(prior, 0);
        IF c.wary > 0 THEN
            most := 1;
        END IF;
        IF c.target IS NULL THEN
            SELECT * INTO floor FROM postrider.shard_positions p WHERE p.subscription = sub AND p.shard = 0 ORDER BY p.seq DESC LIMIT 1;
            IF floor.version = s.version AND pg_snapshot_xmax(c.base) < pg_snapshot_xmax(floor.base) THEN
                c.base := floor.base;
            END IF;
        END IF;
        got := 0; fresh := false; passed := 0; cap := NULL;

        -- Exceptions first. All that concerns a key happens under its shard's lock.
        IF c.parked THEN
            IF cardinality(c.batch) = 0 THEN
                DELETE FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0 AND p.state = 'completed';
            END IF;
            LOOP
                fetched := 0;
                FOR r IN SELECT * FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0
                        AND p.state IN ('retrying', 'held', 'scheduled') AND p.due <= moment ORDER BY p.due, p.id LIMIT most - got LOOP
                    CONTINUE WHEN r.id = ANY (c.batch);
                    fetched := fetched + 1;
                    IF r.key IS NOT NULL AND EXISTS (SELECT FROM postrider.parked b WHERE b.subscription = sub AND b.key = r.key AND b.shard > 0
                            AND (b.id, b.created_at) < (r.id, r.created_at) AND b.state IN ('retrying', 'held', 'dead') AND (b.state <> 'dead' OR s.holds)) THEN
                        -- It waits for what is before it, which brings it forward.
                        UPDATE postrider.parked p SET state = 'held', due = NULL WHERE p.subscription = sub AND p.id = r.id AND p.created_at = r.created_at;
                        PERFORM postrider.release_key(s, r.key);
                        CONTINUE;
                    END IF;
                    -- It, and what is behind it.
                    FOR f IN SELECT p.* FROM postrider.parked p WHERE p.subscription = sub AND p.id = r.id AND p.created_at = r.created_at
                             UNION ALL
                             (SELECT p.* FROM postrider.parked p WHERE p.subscription = sub AND p.key = r.key AND p.shard > 0
                                AND (p.id, p.created_at) > (r.id, r.created_at) AND p.state IN ('retrying', 'held', 'dead') AND (p.state <> 'dead' OR s.holds)
                              ORDER BY p.id, p.created_at LIMIT most - got) LOOP
                        EXIT WHEN f.state = 'dead' OR f.state = 'retrying' AND f.due > moment OR f.id = ANY (c.batch);
                        IF got >= most THEN
                            UPDATE postrider.parked p SET due = '-infinity' WHERE p.subscription = sub AND p.id = f.id AND p.created_at = f.created_at;
                            EXIT;
                        END IF;
                        IF cardinality(c.batch) = 0 THEN
                            prior := CASE WHEN f.id & 137438953471 = suspect THEN prior ELSE 0 END;
                            IF prior > 0 THEN
                                why := coalesce(postrider.unreadable(f.payload, f.body, f.headers),
                                    CASE WHEN f.attempts + prior >= s.max_attempts THEN 'no worker has come to COMMIT with it' END);
                            END IF;
                            IF prior > 0 AND why IS NOT NULL THEN
                                UPDATE postrider.parked p SET state = 'dead', due = NULL, attempts = f.attempts + prior, updated_at = clock_timestamp(), reason = why
                                WHERE p.subscription = sub AND p.id = f.id AND p.created_at = f.created_at;
                                suspect := NULL; passed := passed + 1;
                                PERFORM postrider.release_key(s, f.key);
                                EXIT;
                            END IF;
                            c.deaths := prior;
                        END IF;
                        got := got + 1; c.batch := c.batch || f.id;
                        id := f.id; topic := f.topic; key := f.key; payload := f.payload; body := f.body; headers := f.headers; created_at := f.created_at;
                        priority := f.priority; attempt := f.attempts + 1 + CASE WHEN cardinality(c.batch) = 1 THEN c.deaths ELSE 0 END;
                        -- Kept until COMMIT and beyond, for who says what is wrong with it needs its attempts.
                        UPDATE postrider.parked p SET state = 'completed', attempts = take_thoroughly.attempt, due = NULL, taken = pg_current_xact_id(), updated_at = clock_timestamp()
                        WHERE p.subscription = sub AND p.id = f.id AND p.created_at = f.created_at;
                        RETURN NEXT;
                    END LOOP;
                    EXIT WHEN got >= most;
                END LOOP;
                EXIT WHEN got >= most OR fetched = 0;
            END LOOP;
            c.parked := EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0
                                AND p.state IN ('retrying', 'held', 'scheduled'))
                     OR EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0 AND p.state = 'completed')
                     OR s.holds AND EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.state = 'dead');
        END IF;

        -- Then the log.
        LOOP
            EXIT WHEN got >= most OR passed > 1000;
            IF c.target IS NULL THEN
                EXIT WHEN fresh; -- one new window a call
                fresh := true;
                c := postrider.begin_pass(c);
                EXIT WHEN c.target IS NULL;
            END IF;
            -- Segments that the pass has come to are read together, up to where the next one begins.
            reach := 9223372036854775806;
            FOR i IN 1..cardinality(c.leaves) BY 4 LOOP
                IF c.leaves[i + 1] > c.after_id + 1 THEN
                    reach := least(reach, c.leaves[i + 1] - 1);
                END IF;
            END LOOP;
            room := most - got + CASE WHEN c.parked THEN 20 ELSE 0 END;
            fetched := 0;
            <<page>>
            FOR r IN SELECT p.* FROM generate_series(1, cardinality(c.leaves), 4) i
                    CROSS JOIN LATERAL postrider.shard_page(c.leaves[i], c.leaves[i + 3], c, s, least(reach, c.leaves[i + 2]), room) p
                    WHERE c.leaves[i + 1] <= reach AND c.leaves[i + 2] > c.after_id
                    ORDER BY p.id, p.created_at FETCH FIRST (room) ROWS WITH TIES LOOP
                EXIT WHEN got >= most AND r.id <> c.after_id;
                fetched := fetched + 1;
                IF c.again AND EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.id = r.id AND p.created_at = r.created_at) THEN
                    c.after_id := r.id; -- it stays what it is
                    CONTINUE;
                END IF;
                IF r.deliver_at > moment OR r.id = ANY (c.batch) OR c.parked AND r.key IS NOT NULL AND EXISTS (
                        SELECT FROM postrider.parked b WHERE b.subscription = sub AND b.key = r.key AND b.shard > 0
                            AND (b.id, b.created_at) < (r.id, r.created_at) AND b.state IN ('retrying', 'held', 'dead') AND (b.state <> 'dead' OR s.holds)) THEN
                    IF cap IS NULL THEN
                        SELECT CASE WHEN r.deliver_at > moment THEN s.max_scheduled ELSE s.max_parked END - count(*) INTO cap
                        FROM (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.shard = h.shard AND p.shard > 0
                                AND p.state IN ('retrying', 'held', 'scheduled') LIMIT s.max_parked + s.max_scheduled) q;
                    END IF;
                    IF cap <= 0 THEN
                        passed := 1001; -- full: it stays in the log, and so does what is behind it
                        EXIT page;
                    END IF;
                    cap := cap - 1; passed := passed + 1; c.parked := true; c.after_id := r.id;
                    why := postrider.unreadable(r.payload, r.body, r.headers);
                    IF why IS NOT NULL THEN
                        r.payload := NULL; r.body := NULL; r.headers := NULL;
                        PERFORM postrider.shard_parks(c, r, 'dead', NULL, 0, why);
                        CONTINUE;
                    END IF;
                    PERFORM postrider.shard_parks(c, r, CASE WHEN r.deliver_at > moment THEN 'scheduled' ELSE 'held' END,
                        CASE WHEN r.deliver_at > moment THEN r.deliver_at WHEN r.id = ANY (c.batch) THEN '-infinity' END);
                    CONTINUE;
                END IF;
                IF cardinality(c.batch) = 0 THEN
                    prior := CASE WHEN r.id & 137438953471 = suspect THEN prior ELSE 0 END;
                    IF prior > 0 THEN
                        why := postrider.unreadable(r.payload, r.body, r.headers);
                        IF why IS NOT NULL THEN
                            r.payload := NULL; r.body := NULL; r.headers := NULL;
                        ELSIF prior >= s.max_attempts THEN
                            why := 'no worker has come to COMMIT with it';
                        END IF;
                        IF why IS NOT NULL THEN
                            c.after_id := r.id; c.parked := true; suspect := NULL; passed := passed + 1;
                            PERFORM postrider.shard_parks(c, r, 'dead', NULL, prior, why);
                            CONTINUE;
                        END IF;
                    END IF;
                    c.deaths := prior;
                END IF;
                c.after_id := r.id;
                got := got + 1; c.batch := c.batch || r.id;
                id := r.id; topic := r.topic; key := r.key; payload := r.payload; body := r.body; headers := r.headers; created_at := r.created_at;
                priority := r.priority; attempt := 1 + CASE WHEN cardinality(c.batch) = 1 THEN c.deaths ELSE 0 END;
                RETURN NEXT;
            END LOOP;
            IF fetched < room AND got < most AND passed <= 1000 THEN
                IF reach < 9223372036854775806 THEN
                    c.after_id := reach;
                ELSE
                    c := postrider.end_pass(c);
                END IF;
            END IF;
        END LOOP;

        IF c.leaves[3] <= c.after_id THEN -- what is left comes first
            c.leaves := ARRAY(SELECT c.leaves[i + j] FROM generate_series(1, cardinality(c.leaves), 4) i, generate_series(0, 3) j WHERE c.leaves[i + 2] > c.after_id ORDER BY i, j);
        END IF;
        c.wary := greatest(c.wary - greatest(got + passed, 1), 0);
        IF got > 0 THEN
            c.mark := setval(h.tries, postrider.pack_mark((c.mark_before >> 55) + 1, CASE WHEN cardinality(c.batch) = 1 THEN c.deaths + 1 ELSE 0 END,
                greatest(cardinality(c.batch), c.wary + 1), c.batch[1]));
        ELSE
            c.mark := c.mark_before;
        END IF;
        -- The DELETE is what tells transactions with an older snapshot that they are too late.
        DELETE FROM postrider.shard_positions p WHERE p.subscription = sub AND p.shard = h.shard AND p.seq = c.seq;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'shard % of "%" has moved', h.shard, sub USING ERRCODE = '40001';
        END IF;
        INSERT INTO postrider.shard_positions VALUES (sub, h.shard, c.seq + 1, s.version, c.base, c.target, c.after_id, c.leaves, c.done, c.done_before,
            c.again, c.parked, pg_current_xact_id(), c.batch, c.deaths, c.wary, c.mark, c.mark_before, clock_timestamp());
        IF got > 0 THEN
            RETURN;
        END IF;
    END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.take_thoroughly IS 'postrider.take, whatever there is to do: from the shard that is likely to have something, or any other; 0: all are looked at.';

-- A backlog is a pass under way without exceptions. One statement locks a shard that has one, and one reads the next messages of its segment
-- and moves the position. Few steps, for a session prepares each of them anew in each transaction. Whatever else there is to do, and whatever
-- is not quite so, is left to postrider.take_thoroughly.
DO $do$
DECLARE
    take_function CONSTANT text := $f$
CREATE FUNCTION postrider.take(subscription text, max integer DEFAULT 1, time_limit interval DEFAULT '5 minutes')
    RETURNS TABLE (id bigint, topic text, key text, payload jsonb, body bytea, headers jsonb, created_at timestamptz, priority smallint, attempt integer)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
    SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $b$
#variable_conflict use_column
DECLARE
    chance  double precision := random();
    mine    smallint;
    counter regclass;
    edition bigint;
    n       smallint;
    wanted  text;
    former  xid8;
    was     bigint;
    leaf    bigint;
    bound   text;
BEGIN
    -- Now and then all shards are looked at: else those that have a pass under way would keep the others waiting for ever.
    IF take.max BETWEEN 1 AND 1000 AND time_limit BETWEEN '100 milliseconds' AND '1 day' AND chance >= 0.02 AND current_setting('transaction_isolation') = 'read committed' THEN
        FOR i IN 1..2 LOOP
            SELECT h.shard, h.tries, t.version, t.shards, t.regex, t.earlier_until, p.seq, p.leaf,
                -- Bounds what is left of the transaction, unless it is bounded already.
                concat(CASE WHEN q.a = '0' OR q.a::interval > time_limit THEN set_config('statement_timeout', q.ms, true) END,
                       CASE WHEN q.b = '0' OR q.b::interval > time_limit THEN set_config('idle_in_transaction_session_timeout', q.ms, true) END,
                       CASE WHEN q.c = '0' OR q.c::interval > time_limit THEN set_config('transaction_timeout', q.ms, true) END)
            INTO mine, counter, edition, n, wanted, former, was, leaf, bound
            FROM (SELECT current_setting('statement_timeout') AS a, current_setting('idle_in_transaction_session_timeout') AS b,
                         current_setting('transaction_timeout', true) AS c, ceil(extract(epoch FROM time_limit) * 1000)::bigint::text AS ms) q,
                postrider.shard_settings t, postrider.shards h, LATERAL (
                    SELECT k.seq, k.leaves[1] AS leaf, k.target IS NOT NULL AND NOT k.parked AS going FROM postrider.shard_positions k
                    WHERE k.subscription = take.subscription AND k.shard = h.shard ORDER BY k.seq DESC LIMIT 1) p
            WHERE t.subscription = take.subscription AND h.subscription = take.subscription AND h.shard > floor(chance * t.shards)::smallint
                AND p.going AND t.active AND (pg_has_role(session_user, current_user, 'USAGE') OR EXISTS (
                    SELECT FROM postrider.shard_workers w WHERE w.subscription = take.subscription
                        AND pg_has_role(session_user, to_regrole(quote_ident(w.role))::oid, 'USAGE')))
            LIMIT 1 FOR NO KEY UPDATE OF h SKIP LOCKED;
            EXIT WHEN mine IS NOT NULL;
            chance := 0;
        END LOOP;
        -- New statements: they see what the last one who held the lock has committed.
        IF leaf IS NOT NULL THEN
            %s
            IF FOUND THEN
                RETURN;
            END IF;
        END IF;
    END IF;
    RETURN QUERY SELECT * FROM postrider.take_thoroughly(take.subscription, take.max, time_limit, coalesce(mine, 0::smallint));
END $b$ $f$;
    -- If that position is not the newest any more, or not so simple, there is none to move. If nothing comes, or something that is scheduled, it
    -- stays what it is.
    take_leaf CONSTANT text := $l$
            RETURN QUERY WITH old AS (
                DELETE FROM postrider.shard_positions p WHERE p.subscription = take.subscription AND p.shard = mine AND p.seq = was
                    AND p.version = edition AND p.target IS NOT NULL AND NOT p.parked AND NOT p.again AND p.done IS NULL AND p.wary = 0
                    AND p.mark = coalesce(pg_sequence_last_value(counter), 0) AND p.taker <> pg_current_xact_id()
                    AND (former IS NULL OR former <= pg_snapshot_xmin(p.base))
                    AND p.leaves[1] = leaf AND p.leaves[3] > p.after_id AND p.leaves[4] = 0 AND (p.leaves[6] IS NULL OR p.leaves[6] > p.after_id + 1)
                RETURNING p.seq, p.base, p.target, p.after_id, least(p.leaves[3], p.leaves[6] - 1) AS until, p.leaves, p.taker, p.batch, p.deaths, p.mark, p.mark_before
            ), page AS MATERIALIZED (
                SELECT o.* FROM old, LATERAL (
                    SELECT o.id, o.created_at, o.deliver_at, o.topic::text AS topic, o.key, o.payload, o.body, o.headers::jsonb AS headers, o.priority
                    FROM postrider.outbox_%1$s o
                    WHERE o.id > old.after_id AND o.id <= old.until AND NOT pg_visible_in_snapshot(o.xid, old.base) AND pg_visible_in_snapshot(o.xid, old.target)
                        AND postrider.shard_of(o.key, o.id, n) = mine AND (wanted IS NULL OR o.topic ~ wanted)
                    ORDER BY o.id LIMIT take.max) o
            ), batch AS (
                SELECT CASE WHEN count(*) FILTER (WHERE g.deliver_at > clock_timestamp()) > 0 THEN 0 ELSE count(*) END AS n, array_agg(g.id) AS ids FROM page g
            ), new AS (
                INSERT INTO postrider.shard_positions (subscription, shard, seq, version, base, target, after_id, leaves, taker, batch, deaths, mark, mark_before)
                SELECT take.subscription, mine, old.seq + 1, edition, old.base, old.target,
                    CASE WHEN b.n = 0 THEN old.after_id WHEN b.n < take.max THEN old.until ELSE b.ids[b.n] END, old.leaves,
                    CASE WHEN b.n = 0 THEN old.taker ELSE pg_current_xact_id() END, CASE WHEN b.n = 0 THEN old.batch ELSE b.ids END,
                    CASE WHEN b.n = 0 THEN old.deaths ELSE 0 END, CASE WHEN b.n = 0 THEN old.mark
                        ELSE setval(counter, postrider.pack_mark((old.mark >> 55) + 1, CASE WHEN b.n = 1 THEN 1 ELSE 0 END, b.n, b.ids[1])) END,
                    CASE WHEN b.n = 0 THEN old.mark_before ELSE old.mark END
                FROM old, batch b
                RETURNING shard_positions.taker
            )
            SELECT g.id, g.topic, g.key, g.payload, g.body, g.headers, g.created_at, least(greatest(g.priority, 1::smallint), 4::smallint), 1
            FROM page g WHERE (SELECT new.taker FROM new) = pg_current_xact_id();$l$;
BEGIN
    EXECUTE format(take_function, (SELECT string_agg(format('IF leaf < %s THEN ', 4 * g + 4) ||
        (SELECT string_agg(CASE WHEN i % 4 < 3 THEN format('IF leaf = %s THEN', i) ELSE '' END || format(take_leaf, i), ' ELSE' ORDER BY i)
         FROM generate_series(4 * g, 4 * g + 3) i), ' END IF; ELS' ORDER BY g) || ' END IF; END IF;' FROM generate_series(0, 3) g));
END $do$;
COMMENT ON FUNCTION postrider.take IS 'Takes the next messages of one shard of a subscription, in the worker''s own transaction: COMMIT settles them, ROLLBACK gives them back. At most max of them, from 1 to 1000, those of one key in their order. The transaction''s statements, and its pauses, may last as long as time_limit. No row: there is nothing to do now. What is taken in a statement without BEGIN is settled at once.';
