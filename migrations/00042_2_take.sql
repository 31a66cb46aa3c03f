SET LOCAL search_path = pg_catalog, pg_temp;

DROP FUNCTION postrider.raise_floor(postrider.shard_settings, pg_snapshot);
CREATE FUNCTION postrider.raise_floor(s postrider.shard_settings, here pg_snapshot, shard smallint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    floor postrider.shard_positions;
BEGIN
    PERFORM FROM postrider.shards h WHERE h.subscription = s.subscription AND h.shard = raise_floor.shard FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    floor := postrider.shard_position(s.subscription, shard);
    IF floor.seq IS NULL OR pg_snapshot_xmax(floor.base) < pg_snapshot_xmax(here) THEN
        DELETE FROM postrider.shard_positions p WHERE p.subscription = s.subscription AND p.shard = raise_floor.shard AND p.seq = floor.seq;
        INSERT INTO postrider.shard_positions (subscription, shard, seq, version, base) VALUES (s.subscription, shard, coalesce(floor.seq, 0) + 1, s.version, here);
    END IF;
END $$;
COMMENT ON FUNCTION postrider.raise_floor IS 'Notes that up to a snapshot nothing was new for the shards of a class.';

CREATE OR REPLACE FUNCTION postrider.release_key(s postrider.shard_settings, key text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    first postrider.parked;
BEGIN
    FOR first IN SELECT DISTINCT ON (b.shard) b.* FROM postrider.parked b WHERE b.subscription = s.subscription AND b.key = release_key.key AND b.shard > 0
        AND b.state IN ('retrying', 'held', 'dead') AND (b.state <> 'dead' OR s.holds) ORDER BY b.shard, b.id, b.created_at
    LOOP
        IF first.state = 'held' AND first.due IS NULL THEN
            UPDATE postrider.parked p SET due = '-infinity' WHERE p.subscription = first.subscription AND p.id = first.id AND p.created_at = first.created_at;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.release_key IS 'What waits in a key, of any class, with nothing before it waits for nothing.';

CREATE OR REPLACE FUNCTION postrider.shards_with_news(s postrider.shard_settings, all_c postrider.shard_positions[]) RETURNS smallint[]
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
    started timestamptz := clock_timestamp();
BEGIN
    PERFORM postrider.require_this_cluster();
    FOREACH c IN ARRAY all_c LOOP
        IF c.target IS NULL THEN
            IF floor.shard IS DISTINCT FROM postrider.floor_of(c.shard, s.shards) THEN
                floor := postrider.shard_position(s.subscription, postrider.floor_of(c.shard, s.shards));
            END IF;
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
    IF looked < lim AND (looked >= 200 OR looked >= 20 AND clock_timestamp() > started + interval '3 milliseconds') AND pg_current_xact_id_if_assigned() IS NULL THEN
        PERFORM postrider.raise_floor(s, here, f.floor) FROM (
            SELECT postrider.floor_of(x, s.shards) AS floor, count(*) AS n, bool_or(x = ANY (news)) AS wanted FROM unnest(shards) x GROUP BY 1 ORDER BY 1 DESC) f
        WHERE f.n = s.shards AND NOT f.wanted;
    END IF;
    RETURN news;
END $$;

CREATE FUNCTION postrider.lock_shard_by_class(s postrider.shard_settings, moment timestamptz, tried smallint[]) RETURNS postrider.shards
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    at     integer := floor(random() * s.shards);
    -- Now and then what is new comes first: else shards that have a pass under way would keep the others of their class waiting for ever.
    chance boolean := random() < 0.02;
    all_c  postrider.shard_positions[] := ARRAY(SELECT postrider.shard_position(s.subscription, g) FROM generate_series(1, s.shards * s.classes) g);
    c      postrider.shard_positions;
    served timestamptz[] := array_fill('-infinity'::timestamptz, ARRAY[s.classes]);
    due    smallint[] := '{}';
    going  smallint[] := '{}';
    news   smallint[] := '{}';
    looked smallint[] := '{}'; -- at what is new for these
    these  smallint[];
    class  integer;
    below  integer := s.classes + 1; -- the first class of which it is known that it has something
    mine   postrider.shards;
BEGIN
    FOREACH c IN ARRAY all_c LOOP
        served[postrider.shard_class(c.shard, s.shards)] := greatest(served[postrider.shard_class(c.shard, s.shards)], c.saved_at);
        CONTINUE WHEN c.shard = ANY (tried);
        IF c.parked AND postrider.has_due(s.subscription, c.shard, moment) THEN
            due := due || c.shard;
        ELSIF c.target IS NOT NULL THEN
            going := going || c.shard;
        ELSE
            CONTINUE;
        END IF;
        below := least(below, postrider.shard_class(c.shard, s.shards) + CASE WHEN chance THEN 1 ELSE 0 END);
    END LOOP;
    -- A look at many ends with the first messages that are for one of them. Is there something further on, for a class before that?
    WHILE below > 1 LOOP
        these := ARRAY(SELECT a.shard FROM unnest(all_c) a WHERE postrider.shard_class(a.shard, s.shards) < below AND a.shard <> ALL (tried || due || going));
        looked := looked || these;
        these := postrider.shards_with_news(s, ARRAY(SELECT a FROM unnest(all_c) a WHERE a.shard = ANY (these)));
        EXIT WHEN these = '{}';
        news := news || these;
        below := (SELECT min(postrider.shard_class(x, s.shards)) FROM unnest(these) x);
    END LOOP;
    FOR class IN SELECT g FROM generate_series(1, s.classes) g ORDER BY served[g] >= moment - interval '1 minute', g LOOP
        FOR i IN 1..2 LOOP
            SELECT p.* INTO mine FROM postrider.shards p JOIN postrider.shards h ON h.subscription = p.subscription AND h.shard = postrider.key_shard(p.shard, s.shards)
            WHERE p.subscription = s.subscription AND p.shard = ANY (due || going || news) AND postrider.shard_class(p.shard, s.shards) = class
            ORDER BY p.shard = ANY (due) DESC, (p.shard = ANY (going)) = chance, (p.shard + at) % s.shards LIMIT 1 FOR NO KEY UPDATE OF h SKIP LOCKED;
            IF FOUND THEN
                RETURN mine;
            END IF;
            -- They are busy, or nothing is known of it.
            EXIT WHEN i = 2 OR EXISTS (SELECT FROM unnest(looked) x WHERE postrider.shard_class(x, s.shards) = class)
                AND NOT EXISTS (SELECT FROM unnest(news) x WHERE postrider.shard_class(x, s.shards) = class);
            these := ARRAY(SELECT a.shard FROM unnest(all_c) a WHERE postrider.shard_class(a.shard, s.shards) = class AND a.shard <> ALL (tried || due || going || news));
            EXIT WHEN these = '{}';
            news := news || postrider.shards_with_news(s, ARRAY(SELECT a FROM unnest(all_c) a WHERE a.shard = ANY (these)));
        END LOOP;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION postrider.lock_shard_by_class IS 'postrider.lock_shard of a subscription with priorities: a shard of the first class that has something to do, or of one that was not served for a minute.';

CREATE OR REPLACE FUNCTION postrider.take_thoroughly(subscription text, max integer, time_limit interval, likely smallint)
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
    FOR round IN CASE WHEN likely = 0 OR s.classes > 1 THEN 3 ELSE 1 END..3 LOOP
    FOR turn IN 1..s.shards * s.classes LOOP
        IF round = 1 THEN -- by chance: where there is much to do, it is enough
            at := coalesce(likely, (1 + floor(random() * s.shards))::smallint);
            likely := NULL;
            SELECT p.target IS NOT NULL, p.parked INTO going, exceptions FROM postrider.shard_positions p
            WHERE p.subscription = sub AND p.shard = at ORDER BY p.seq DESC LIMIT 1;
            EXIT WHEN at = ANY (tried) OR NOT going AND NOT (exceptions AND postrider.has_due(sub, at, moment));
            SELECT * INTO h FROM postrider.shards q WHERE q.subscription = sub AND q.shard = at FOR NO KEY UPDATE SKIP LOCKED;
        ELSE
            h := CASE WHEN s.classes = 1 THEN postrider.lock_shard(s, moment, round, tried) ELSE postrider.lock_shard_by_class(s, moment, tried) END;
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
                PERFORM postrider.note_event('worker_lost', sub, 'no COMMIT came of its transaction', jsonb_build_object('times', greatest(prior, 1),
                    'jobs', CASE WHEN prior > 0 THEN 1 ELSE greatest(c.wary, 1) END, 'reason', 'no COMMIT came of its transaction'));
            END IF;
        END IF;
        prior := coalesce(prior, 0);
        IF c.wary > 0 THEN
            most := 1;
        END IF;
        IF c.target IS NULL THEN
            SELECT * INTO floor FROM postrider.shard_positions p WHERE p.subscription = sub AND p.shard = postrider.floor_of(h.shard, s.shards) ORDER BY p.seq DESC LIMIT 1;
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
                    IF r.key IS NOT NULL AND EXISTS (SELECT FROM postrider.parked b WHERE b.subscription = sub AND b.key = r.key AND b.shard > 0 AND b.shard = h.shard
                            AND (b.id, b.created_at) < (r.id, r.created_at) AND b.state IN ('retrying', 'held', 'dead') AND (b.state <> 'dead' OR s.holds)) THEN
                        -- It waits for what is before it, which brings it forward.
                        UPDATE postrider.parked p SET state = 'held', due = NULL WHERE p.subscription = sub AND p.id = r.id AND p.created_at = r.created_at;
                        PERFORM postrider.release_key(s, r.key);
                        CONTINUE;
                    END IF;
                    -- It, and what is behind it.
                    FOR f IN SELECT p.* FROM postrider.parked p WHERE p.subscription = sub AND p.id = r.id AND p.created_at = r.created_at
                             UNION ALL
                             (SELECT p.* FROM postrider.parked p WHERE p.subscription = sub AND p.key = r.key AND p.shard > 0 AND p.shard = h.shard
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
                                PERFORM postrider.keep_attempt(sub, f.id, f.created_at, f.attempts + prior, moment, NULL, 'lost', postrider.no_commit(prior), NULL);
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
                        SELECT FROM postrider.parked b WHERE b.subscription = sub AND b.key = r.key AND b.shard > 0 AND b.shard = h.shard
                            AND (b.id, b.created_at) < (r.id, r.created_at) AND b.state IN ('retrying', 'held', 'dead') AND (b.state <> 'dead' OR s.holds)) THEN
                    IF cap IS NULL THEN
                        SELECT CASE WHEN r.deliver_at > moment THEN s.max_scheduled ELSE s.max_parked END - count(*) INTO cap
                        FROM (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.shard > 0 -- of all classes of these keys
                                AND p.shard = ANY (ARRAY(SELECT (postrider.key_shard(h.shard, s.shards) + g * s.shards)::smallint FROM generate_series(0, s.classes - 1) g))
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
                        PERFORM postrider.keep_attempt(sub, r.id, r.created_at, prior, moment, NULL, 'lost', postrider.no_commit(prior), NULL);
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
