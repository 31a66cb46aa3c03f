-- +goose Up

SET LOCAL search_path = pg_catalog, pg_temp;

-- A destination may take a message over and say later, by a callback, what came of it. Until then its delivery is 'accepted', for
-- as long as its lease lasts (due is its end). A callback makes it 'completed' or 'failed', and the owner of the cursor concludes
-- the rest. The token names the last attempt that was accepted: a callback for any other changes nothing.
ALTER TABLE postrider.parked
    ADD COLUMN token bigint,
    ADD COLUMN lease interval,
    DROP CONSTRAINT state_is_known,
    ADD CONSTRAINT state_is_known CHECK (state IN
        ('retry', 'held', 'scheduled', 'accepted', 'completed', 'failed', 'dead', 'discarded'));

-- What a callback has changed, and leases that may be over.
CREATE INDEX parked_called_back ON postrider.parked (subscription, id) WHERE state IN ('completed', 'failed');
CREATE INDEX parked_leases ON postrider.parked (subscription, due) WHERE state = 'accepted';

-- Callbacks are SECURITY DEFINER: a worker that calls them itself needs EXECUTE and USAGE on the schema, nothing else.

-- The work is done: the message counts as delivered. False if the attempt does not wait for a callback (any more).
-- +goose StatementBegin
CREATE FUNCTION postrider.complete(subscription text, id bigint, token bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE postrider.parked p SET state = 'completed', due = NULL, updated_at = now()
    WHERE p.subscription = complete.subscription AND p.id = complete.id AND p.token = complete.token
      AND p.state = 'accepted' AND p.due > clock_timestamp();
    RETURN FOUND;
END $$;
-- +goose StatementEnd

-- The work has failed: the message is tried again, not before retry_after has passed, or is dead at once. False as above.
-- +goose StatementBegin
CREATE FUNCTION postrider.fail(subscription text, id bigint, token bigint, reason text DEFAULT NULL,
        retry_after interval DEFAULT NULL, dead boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF retry_after NOT BETWEEN '0' AND '1 year' THEN
        RAISE EXCEPTION 'retry_after %: must be an interval from 0 to 1 year', retry_after USING ERRCODE = '22023';
    END IF;
    -- Without a due time it is to be dead.
    UPDATE postrider.parked p SET state = 'failed', updated_at = now(),
        due = CASE WHEN NOT coalesce(fail.dead, false) THEN clock_timestamp() + coalesce(fail.retry_after, '0') END,
        reason = 'the receiver reports: ' || coalesce(nullif(left(fail.reason, 1000), ''), 'failed')
    WHERE p.subscription = fail.subscription AND p.id = fail.id AND p.token = fail.token
      AND p.state = 'accepted' AND p.due > clock_timestamp();
    RETURN FOUND;
END $$;
-- +goose StatementEnd

-- The work goes on: the lease begins anew, with another length if one is given. Returns its end, null if the attempt does not wait
-- for a callback (any more).
-- +goose StatementBegin
CREATE FUNCTION postrider.heartbeat(subscription text, id bigint, token bigint, lease interval DEFAULT NULL) RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    until timestamptz;
BEGIN
    IF lease NOT BETWEEN '1 second' AND '7 days' THEN
        RAISE EXCEPTION 'lease %: must be an interval from 1 second to 7 days', lease USING ERRCODE = '22023';
    END IF;
    UPDATE postrider.parked p SET due = clock_timestamp() + coalesce(heartbeat.lease, p.lease), updated_at = now()
    WHERE p.subscription = heartbeat.subscription AND p.id = heartbeat.id AND p.token = heartbeat.token
      AND p.state = 'accepted' AND p.due > clock_timestamp()
    RETURNING p.due INTO until;
    RETURN until;
END $$;
-- +goose StatementEnd

-- What an attempt is at: 'waiting' for a callback, 'early' (its delivery is not recorded yet), or 'over'.
-- +goose StatementBegin
CREATE FUNCTION postrider.attempt_state(subscription text, id bigint, token bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p postrider.parked;
BEGIN
    SELECT * INTO p FROM postrider.parked q WHERE q.subscription = attempt_state.subscription AND q.id = attempt_state.id;
    IF FOUND THEN
        RETURN CASE WHEN p.token = attempt_state.token AND p.state = 'accepted' AND p.due > clock_timestamp() THEN 'waiting'
                    WHEN p.state IN ('dead', 'discarded') OR p.token >= attempt_state.token THEN 'over'
                    ELSE 'early' END;
    END IF;
    RETURN CASE WHEN EXISTS (
        SELECT FROM postrider.outbox o JOIN postrider.cursors c ON c.subscription = attempt_state.subscription
        WHERE o.id = attempt_state.id AND NOT pg_visible_in_snapshot(o.xid, c.base) AND NOT c.done @> o.id
          AND NOT coalesce(o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target), false))
        THEN 'early' ELSE 'over' END;
END $$;
-- +goose StatementEnd

-- As before, with the states of callbacks: a completed delivery counts as delivered, a failed one is going to be retried.
CREATE OR REPLACE VIEW postrider.deliveries AS
SELECT s.name AS subscription, o.id, o.topic, o.key, o.created_at,
       CASE WHEN p.state = 'completed' THEN 'delivered'
            WHEN p.state = 'failed' THEN 'retry'
            WHEN p.id IS NOT NULL THEN p.state
            WHEN pg_visible_in_snapshot(o.xid, c.base)
              OR (o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target))
              OR c.done @> o.id THEN 'delivered'
            ELSE 'pending' END AS status,
       p.attempts, p.due, p.reason
FROM postrider.subscriptions s
JOIN postrider.cursors c ON c.subscription = s.name
CROSS JOIN LATERAL (SELECT postrider.topic_regex(s.topics) AS regex OFFSET 0) r
JOIN postrider.outbox o
  ON o.topic ~ CASE WHEN s.earlier = '[]' THEN r.regex
                    ELSE postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, o.xid)) END
 AND NOT pg_visible_in_snapshot(o.xid, s.started)
LEFT JOIN postrider.parked p ON p.subscription = s.name AND p.id = o.id
UNION ALL
SELECT p.subscription, p.id, p.topic, p.key, p.created_at,
       CASE p.state WHEN 'completed' THEN 'delivered' WHEN 'failed' THEN 'retry' ELSE p.state END, p.attempts, p.due, p.reason
FROM postrider.parked p
JOIN postrider.subscriptions s ON s.name = p.subscription
WHERE NOT EXISTS (
    SELECT FROM postrider.outbox o
    WHERE o.id = p.id AND NOT pg_visible_in_snapshot(o.xid, s.started)
      AND o.topic ~ postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, o.xid)));

-- As before, with the deliveries that wait for a callback.
CREATE OR REPLACE VIEW postrider.subscription_status AS
SELECT s.name, s.state, s.paused_reason, c.trouble, s.topics, r.name AS owner,
       lag.messages AS lag_messages,
       coalesce(extract(epoch FROM clock_timestamp() - lag.oldest), 0)::double precision AS lag_seconds,
       parked.retrying, parked.held, parked.scheduled, parked.dead, parked.discarded,
       lag.segments AS segments_held,
       c.saved_at,
       parked.accepted
FROM postrider.subscriptions s
JOIN postrider.cursors c ON c.subscription = s.name
LEFT JOIN postrider.relays r ON r.incarnation = c.owner
CROSS JOIN LATERAL postrider.backlog(s.name) lag
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE p.state IN ('retry', 'failed')) AS retrying, count(*) FILTER (WHERE p.state = 'held') AS held,
           count(*) FILTER (WHERE p.state = 'scheduled') AS scheduled, count(*) FILTER (WHERE p.state = 'dead') AS dead,
           count(*) FILTER (WHERE p.state = 'discarded') AS discarded, count(*) FILTER (WHERE p.state = 'accepted') AS accepted
    FROM postrider.parked p WHERE p.subscription = s.name
) parked;

-- Also those that wait for a callback may be tried again now, by their ids: callbacks for the attempt before come too late then.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.redrive(subscription text, ids bigint[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    IF NOT postrider.lock_subscription(subscription) THEN
        RETURN 0;
    END IF;
    UPDATE postrider.parked p SET state = 'retry', attempts = 0, due = now(), updated_at = now()
    WHERE p.subscription = redrive.subscription
      AND CASE WHEN ids IS NULL THEN p.state = 'dead'
               ELSE p.id = ANY (ids) AND p.state IN ('dead', 'retry', 'accepted', 'failed', 'discarded') END;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE postrider.subscriptions s SET version = s.version + 1 WHERE s.name = redrive.subscription AND n > 0;
    RETURN n;
END $$;
-- +goose StatementEnd

-- A completed delivery cannot be given up.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.discard(subscription text, ids bigint[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    IF NOT postrider.lock_subscription(subscription) THEN
        RETURN 0;
    END IF;
    UPDATE postrider.parked p SET state = 'discarded', due = NULL, updated_at = now()
    WHERE p.subscription = discard.subscription
      AND CASE WHEN ids IS NULL THEN p.state = 'dead' ELSE p.id = ANY (ids) AND p.state NOT IN ('completed', 'discarded') END;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE postrider.subscriptions s SET version = s.version + 1 WHERE s.name = discard.subscription AND n > 0;
    RETURN n;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION postrider.complete(text, bigint, bigint), postrider.heartbeat(text, bigint, bigint, interval),
    postrider.fail(text, bigint, bigint, text, interval, boolean), postrider.attempt_state(text, bigint, bigint) FROM PUBLIC;

-- +goose Down
-- The views and commands stay as they are: without those states they mean what they meant before.
UPDATE postrider.parked SET state = 'retry',
    due = coalesce(due, now()) WHERE state IN ('accepted', 'failed');
DELETE FROM postrider.parked WHERE state = 'completed';
DROP INDEX postrider.parked_called_back, postrider.parked_leases;
ALTER TABLE postrider.parked
    DROP COLUMN token,
    DROP COLUMN lease,
    DROP CONSTRAINT state_is_known,
    ADD CONSTRAINT state_is_known CHECK (state IN ('retry', 'held', 'scheduled', 'dead', 'discarded'));
DROP FUNCTION postrider.complete(text, bigint, bigint), postrider.heartbeat(text, bigint, bigint, interval),
    postrider.fail(text, bigint, bigint, text, interval, boolean), postrider.attempt_state(text, bigint, bigint);
