SET LOCAL search_path = pg_catalog, pg_temp;

-- Whether a chunk fails for once or over and over is what somebody who looks wants to know.
ALTER TABLE postrider.operations ADD COLUMN troubled_at timestamptz;
COMMENT ON COLUMN postrider.operations.troubled_at IS 'Since when no chunk could be done; null: the last one was.';

CREATE OR REPLACE FUNCTION postrider.work_operation(relay text DEFAULT NULL, most integer DEFAULT 2000, OUT id bigint, OUT wait interval)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
#variable_conflict use_column
DECLARE
    o   postrider.operations;
    was postrider.operations;
BEGIN
    IF most IS NULL OR most NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'most %: must be from 1 to 10000', coalesce(most::text, 'null') USING ERRCODE = '22023';
    END IF;
    PERFORM postrider.require_this_cluster();
    SELECT * INTO was FROM postrider.operations q WHERE q.finished_at IS NULL AND q.due <= clock_timestamp() ORDER BY q.due, q.id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        id := was.id;
        o := was;
        IF NOT EXISTS (SELECT FROM postrider.subscriptions s WHERE s.name = o.subscription AND s.created_at <= o.asked_at) THEN
            o.state := 'failed'; o.finished_at := clock_timestamp(); o.trouble := format('subscription "%s" was removed', o.subscription);
        ELSE
            BEGIN
                o.state := 'running'; o.trouble := NULL; o.troubled_at := NULL;
                o := postrider.do_operation(o, most);
            EXCEPTION WHEN OTHERS THEN -- nothing of the chunk was done
                o := was;
                o.state := 'running'; o.trouble := left(SQLERRM, 1000); o.troubled_at := coalesce(was.troubled_at, clock_timestamp()); o.due := clock_timestamp() + interval '5 seconds';
            END;
        END IF;
        UPDATE postrider.operations q SET (state, looked, changed, refused, trouble, troubled_at, in_log, after_id, after_segment, after_created, relay, due, worked_at, finished_at)
            = (o.state, o.looked, o.changed, o.refused, o.trouble, o.troubled_at, o.in_log, o.after_id, o.after_segment, o.after_created, work_operation.relay, o.due, clock_timestamp(), o.finished_at)
        WHERE q.id = o.id;
    END IF;
    SELECT min(q.due) - clock_timestamp() INTO wait FROM postrider.operations q WHERE q.finished_at IS NULL;
    IF wait < '0' THEN
        wait := '0';
    END IF;
END $$;
COMMENT ON FUNCTION postrider.work_operation IS 'Does a chunk of an operation that is due, and notes how far that is: both or none. Relays call it. Returns which one it was, null if nobody waits for one, and how long the next one is to be waited for, null if there is none.';
