SET LOCAL search_path = pg_catalog, pg_temp;

-- A destination may take a message and say later, by a callback, what came of it. Until then its delivery is leased, for as long as its lease
-- lasts (due is its end). A callback makes it completed or failed, and the owner of the cursor concludes the rest.
--
-- Callbacks are SECURITY DEFINER: a worker that calls them itself needs EXECUTE and USAGE on the schema, nothing else.

CREATE FUNCTION postrider.complete(subscription text, id bigint, token bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    UPDATE postrider.parked p SET state = 'completed', due = NULL, updated_at = now()
    WHERE p.subscription = complete.subscription AND p.id = complete.id AND p.token = complete.token
      AND p.state = 'leased' AND p.due > clock_timestamp();
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.complete IS 'The work is done: the message counts as delivered. False if the attempt does not wait for a callback (any more).';

CREATE FUNCTION postrider.fail(subscription text, id bigint, token bigint, reason text DEFAULT NULL,
        retry_after interval DEFAULT NULL, dead boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    -- What does not show, and changes what does: control characters, and those that turn the direction of what follows. A character's
    -- number is that of the database's encoding; without one, what is UTF-8 is found by its bytes.
    unprintable CONSTANT text := CASE getdatabaseencoding()
        WHEN 'UTF8' THEN E'[\\u0001-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\U000e0001-\\U000e007f]'
        WHEN 'SQL_ASCII' THEN E'[\\u0001-\\u001f\\u007f]|\\u00c2[\\u0080-\\u009f\\u00ad]|\\u00d8\\u009c|\\u00e1\\u00a0\\u008e'
            || E'|\\u00e2\\u0080[\\u008b-\\u008f\\u00a8-\\u00ae]|\\u00e2\\u0081[\\u00a0-\\u00af]|\\u00ef\\u00bb\\u00bf|\\u00ef\\u00bf[\\u00b9-\\u00bb]|\\u00f3\\u00a0[\\u0080\\u0081].'
        WHEN 'LATIN1' THEN E'[\\u0001-\\u001f\\u007f-\\u009f\\u00ad]'
        ELSE E'[\\u0001-\\u001f\\u007f]' END;
BEGIN
    IF retry_after NOT BETWEEN '0' AND '1 year' THEN
        RAISE EXCEPTION 'retry_after %: must be an interval from 0 to 1 year', retry_after USING ERRCODE = '22023';
    END IF;
    -- Without a due time it is to be dead.
    UPDATE postrider.parked p SET state = 'failed', updated_at = now(),
        due = CASE WHEN NOT coalesce(fail.dead, false) THEN clock_timestamp() + coalesce(fail.retry_after, '0') END,
        reason = 'the receiver reports: ' || coalesce(nullif(btrim(regexp_replace(left(fail.reason, 1000), unprintable, ' ', 'g')), ''), 'failed')
    WHERE p.subscription = fail.subscription AND p.id = fail.id AND p.token = fail.token
      AND p.state = 'leased' AND p.due > clock_timestamp();
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.fail IS 'The work has failed: the message is tried again, not before retry_after has passed, or is dead at once. False if the attempt does not wait for a callback (any more).';

CREATE FUNCTION postrider.heartbeat(subscription text, id bigint, token bigint, lease interval DEFAULT NULL) RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    until timestamptz;
BEGIN
    IF lease NOT BETWEEN '1 second' AND '7 days' THEN
        RAISE EXCEPTION 'lease %: must be an interval from 1 second to 7 days', lease USING ERRCODE = '22023';
    END IF;
    UPDATE postrider.parked p SET due = clock_timestamp() + coalesce(heartbeat.lease, p.lease), updated_at = now()
    WHERE p.subscription = heartbeat.subscription AND p.id = heartbeat.id AND p.token = heartbeat.token
      AND p.state = 'leased' AND p.due > clock_timestamp()
    RETURNING p.due INTO until;
    RETURN until;
END $$;
COMMENT ON FUNCTION postrider.heartbeat IS 'The work goes on: the lease begins anew, with another length if one is given. Returns its end, null if the attempt does not wait for a callback (any more).';

-- Tokens are random: one that is not recorded is early as long as an attempt may be under way. Clocks of relays and of the server differ by
-- minutes at most.
CREATE FUNCTION postrider.attempt_state(subscription text, id bigint, token bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    p postrider.parked;
BEGIN
    SELECT * INTO p FROM postrider.parked q
    WHERE q.subscription = attempt_state.subscription AND q.id = attempt_state.id AND q.token = attempt_state.token;
    IF FOUND THEN
        RETURN CASE WHEN p.state = 'leased' AND p.due > clock_timestamp() THEN 'waiting' ELSE 'over' END;
    END IF;
    RETURN CASE WHEN EXISTS (
        SELECT FROM postrider.parked q
        WHERE q.subscription = attempt_state.subscription AND q.id = attempt_state.id
          AND (q.state = 'held' OR q.state IN ('retrying', 'scheduled') AND coalesce(q.due <= clock_timestamp() + interval '5 minutes', true))
    ) OR EXISTS (
        SELECT FROM postrider.outbox o JOIN postrider.cursors c ON c.subscription = attempt_state.subscription
        WHERE o.id = attempt_state.id AND NOT pg_visible_in_snapshot(o.xid, c.base)
          AND NOT (c.done @> o.id AND o.created_at <= c.saved_at)
          AND NOT EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last)
                          WHERE d.ids @> o.id AND o.created_at BETWEEN d.first AND d.last)
          AND NOT coalesce(o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target), false)
          AND NOT EXISTS (SELECT FROM postrider.parked q WHERE q.subscription = attempt_state.subscription
                          AND q.id = o.id AND q.created_at = o.created_at)
    ) THEN 'early' ELSE 'over' END;
END $$;
COMMENT ON FUNCTION postrider.attempt_state IS 'What an attempt is at: waiting for a callback, early (its delivery may not be recorded yet), or over.';
