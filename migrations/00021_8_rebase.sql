SET LOCAL search_path = pg_catalog, pg_temp;

-- The ids of what each subscription has settled are worked out from the transaction ids of the old cluster, which are then replaced.
-- Applications wait meanwhile. What is settled now was created before saved_at.
CREATE FUNCTION postrider.rebase(new_source_id boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    here_cluster  bigint := (SELECT system_identifier FROM pg_control_system());
    here_database oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    origin        postrider.source;
    me            numeric := pg_current_xact_id()::text::numeric;
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
    -- A segment gets its key when the copy has been filled. Rows that are younger and carry a transaction id that can be their
    -- own were enqueued here, since; the old snapshots say nothing of them. Within one cluster ids keep their meaning.

    FOR sub IN SELECT s.name FROM postrider.subscriptions s ORDER BY s.name LOOP
        PERFORM postrider.lock_subscription(sub.name);
        WITH message AS (
            SELECT o.*, s.topics, s.earlier, s.started, c.base, c.target, c.after_id, c.done, c.saved_at, c.done_ids, c.done_first, c.done_last, r.regex,
                   origin.system_identifier <> here_cluster AND o.full_xid > o.copied AND o.full_xid <= me - o.age AS native
            FROM postrider.subscriptions s
            JOIN postrider.cursors c ON c.subscription = s.name
            CROSS JOIN LATERAL (SELECT postrider.topic_regex(s.topics) AS regex OFFSET 0) r
            CROSS JOIN (
                SELECT m.id, m.xid, m.created_at, m.topic, m.xid::text::numeric AS full_xid, age(m.xmin) AS age, coalesce(me - age(k.xmin), me) AS copied
                FROM postrider.outbox m LEFT JOIN pg_constraint k ON k.conrelid = m.tableoid AND k.contype = 'p') o
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
COMMENT ON FUNCTION postrider.rebase IS 'After a copy by dump and restore, by logical replication, or by pg_upgrade into another cluster: nothing is lost or delivered twice. The source id stays, and with it the id that each message has on the wire: receivers know repeats of what the original has sent. A copy that is to live beside its original needs another one: rebase(new_source_id => true). Relays are started afterwards. Run it in a transaction of its own. Returns how many messages are retained.';
