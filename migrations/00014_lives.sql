-- +goose Up

SET LOCAL search_path = pg_catalog, pg_temp;

-- As before: nothing of what was settled counts any more.
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
    SET base = start_base, target = NULL, after_id = NULL, done = '{}',
        done_ids = '{}', done_first = '{}', done_last = '{}', epoch = c.epoch + 1
    WHERE c.subscription = replay.name;
    RETURN true;
END $$;
-- +goose StatementEnd

-- As before, with rows that are known by id and creation. What is settled now was created before saved_at.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.rebase(new_source_id boolean DEFAULT false) RETURNS bigint
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
            SELECT o.*, s.topics, s.earlier, s.started, c.base, c.target, c.after_id, c.done, c.saved_at, c.done_ids, c.done_first, c.done_last, r.regex,
                   origin.system_identifier <> here_cluster AND o.full_xid > copied AND o.full_xid <= me - o.age AS native
            FROM postrider.subscriptions s
            JOIN postrider.cursors c ON c.subscription = s.name
            CROSS JOIN LATERAL (SELECT postrider.topic_regex(s.topics) AS regex OFFSET 0) r
            CROSS JOIN (
                SELECT id, xid, created_at, topic, xid::text::numeric AS full_xid, age(xmin) AS age FROM postrider.outbox) o
            WHERE s.name = sub.name
        ), judged AS (
            SELECT m.id,
                   (m.id, m.created_at) IN (SELECT p.id, p.created_at FROM postrider.parked p WHERE p.subscription = sub.name)
                   OR m.topic !~ CASE WHEN m.native OR m.earlier = '[]' THEN m.regex
                                      ELSE postrider.topic_regex(postrider.topics_at(m.topics, m.earlier, m.xid)) END
                   OR NOT m.native AND (
                       pg_visible_in_snapshot(m.xid, m.base) OR pg_visible_in_snapshot(m.xid, m.started)
                       OR m.done @> m.id AND m.created_at <= m.saved_at
                       OR EXISTS (SELECT FROM unnest(m.done_ids, m.done_first, m.done_last) d (ids, first, last)
                                  WHERE d.ids @> m.id AND m.created_at BETWEEN d.first AND d.last)
                       OR coalesce(m.id <= m.after_id AND pg_visible_in_snapshot(m.xid, m.target), false)) AS settled
            FROM message m
        ), run AS (
            -- Settled messages with no other in between make one range, whatever ids were never used. An id that came twice is settled
            -- if both are.
            SELECT int8range(min(n.id), max(n.id), '[]') AS ids
            FROM (SELECT j.id, j.settled, count(*) FILTER (WHERE NOT j.settled) OVER (ORDER BY j.id) AS before 
                  FROM (SELECT id, bool_and(judged.settled) AS settled FROM judged GROUP BY id) j) n
            WHERE n.settled GROUP BY n.before
        )
        UPDATE postrider.cursors c
        SET done = coalesce((SELECT range_agg(run.ids) FROM run), '{}'), target = NULL, after_id = NULL,
            done_ids = '{}', done_first = '{}', done_last = '{}'
        WHERE c.subscription = sub.name;
    END LOOP;

    -- Logical replication leaves sequences behind: an id must not come twice.
    PERFORM setval('postrider.outbox_id_seq', m.id)
    FROM (SELECT greatest((SELECT max(id) FROM postrider.outbox), (SELECT max(id) FROM postrider.parked)) AS id) m
    WHERE m.id > (SELECT last_value FROM postrider.outbox_id_seq);
    UPDATE postrider.outbox SET xid = pg_current_xact_id();
    GET DIAGNOSTICS retained = ROW_COUNT;
    UPDATE postrider.parked SET xid = NULL WHERE xid IS NOT NULL;
    fresh := postrider.snapshot_before_me();
    -- What is not in done is wanted, also if it was by earlier topics alone.
    UPDATE postrider.subscriptions s SET started = fresh, earlier = CASE WHEN s.earlier = '[]' THEN '[]' ELSE jsonb_build_array(
        jsonb_build_object('until', postrider.snapshot_after_me()::text, 'topics', ARRAY(
            SELECT unnest(s.topics) UNION
            SELECT jsonb_array_elements_text(e -> 'topics') FROM jsonb_array_elements(s.earlier) e))) END;
    UPDATE postrider.cursors SET base = fresh, epoch = epoch + 1, owner = NULL, trouble = NULL, saved_at = clock_timestamp();
    DELETE FROM postrider.relays;
    UPDATE postrider.source SET system_identifier = here_cluster, database_oid = here_database,
        id = CASE WHEN coalesce(new_source_id, false) THEN left(replace(gen_random_uuid()::text, '-', ''), 8) ELSE id END;
    RETURN retained;
END $$;
-- +goose StatementEnd

-- As before, where ids were set back as well.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.segment_is_old(segment smallint, retention interval) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    newest timestamptz;
    turns  integer := (postrider.current_segment() - segment) & 15;
BEGIN
    IF turns IN (0, 15) THEN
        RETURN false;
    END IF;
    -- The newest by id and by transaction: ids may have been set back.
    newest := greatest((SELECT o.created_at FROM postrider.outbox o WHERE o.segment = segment_is_old.segment ORDER BY o.id DESC LIMIT 1),
                       (SELECT o.created_at FROM postrider.outbox o WHERE o.segment = segment_is_old.segment ORDER BY o.xid DESC LIMIT 1));
    IF newest IS NULL OR newest <= clock_timestamp() THEN
        RETURN coalesce(newest < clock_timestamp() - retention, false);
    END IF;
    RETURN (turns - 1) * (SELECT s.segment_seconds FROM postrider.source s) >= extract(epoch FROM retention);
END $$;
-- +goose StatementEnd

-- As before, with parked rows that are known by id and creation.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.read_message(subscription text, id bigint, created_at timestamptz, longest_key integer, largest bigint, most bigint,
        OUT kind text, OUT size bigint, OUT part bytea)
    RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
    chunk CONSTANT integer := 1048576;
    key   bigint;
    p     jsonb;
    b     bytea;
    h     jsonb;
    doc   bytea; -- p as text
    head  bytea; -- h as text
    state text;
    said  text;
    known boolean;
BEGIN
    IF subscription IS NOT NULL THEN
        SELECT true, octet_length(t.key), t.payload, t.body, t.headers INTO known, key, p, b, h FROM postrider.parked t
        WHERE t.subscription = read_message.subscription AND t.id = read_message.id AND t.created_at = read_message.created_at;
    END IF;
    IF p IS NULL AND b IS NULL THEN
        SELECT true, octet_length(o.key), o.payload, o.body, o.headers::jsonb INTO known, key, p, b, h FROM postrider.outbox o
        WHERE o.id = read_message.id AND o.created_at = read_message.created_at;
    END IF;
    IF known IS NULL OR p IS NULL AND b IS NULL THEN
        RETURN;
    END IF;
    IF key > longest_key THEN
        kind := 'key'; size := key;
        RETURN NEXT;
        RETURN;
    END IF;
    -- Known before anything is read: a body's size, and that of a document that is mostly digits.
    size := octet_length(b);
    IF p IS NOT NULL THEN
        size := postrider.long_numbers(p, greatest(4 * largest, 4294967296));
    END IF;
    IF size > largest THEN
        kind := 'size';
        RETURN NEXT;
        RETURN;
    END IF;
    head := convert_to(h::text, 'UTF8');
    IF p IS NOT NULL THEN
        doc := convert_to(p::text, 'UTF8');
        size := octet_length(doc);
    END IF;
    size := size + coalesce(octet_length(head), 0);
    kind := CASE WHEN size > largest THEN 'size' ELSE 'message' END;
    RETURN NEXT;
    IF size > most OR kind = 'size' THEN
        RETURN;
    END IF;
    IF head IS NOT NULL THEN
        kind := 'headers'; size := octet_length(head); part := head;
        RETURN NEXT;
    END IF;
    kind := CASE WHEN p IS NULL THEN 'body' ELSE 'payload' END;
    doc := coalesce(doc, substr(b, 1)); -- unpacked once
    size := octet_length(doc);
    FOR n IN 0..size / chunk LOOP
        part := substr(doc, n * chunk + 1, chunk);
        RETURN NEXT;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, said = MESSAGE_TEXT;
    IF left(state, 2) NOT IN ('22', '53', '54', '58', 'XX') THEN
        RAISE;
    END IF;
    kind := CASE WHEN left(state, 2) IN ('53', '58') THEN 'trouble' ELSE 'problem' END;
    size := NULL;
    part := convert_to(said || ' (' || state || ')', 'UTF8');
    RETURN NEXT;
END $$;
-- +goose StatementEnd

-- +goose Down
-- The functions stay as they are: without runs and twins they mean what they meant before.
SELECT 1;
