-- +goose Up

SET LOCAL search_path = pg_catalog, pg_temp;

-- When the relay last renewed its lease, by this server's clock, and what its environment and its file say of subscriptions:
-- two that say different things of one are told of each other. {"name": {"sum": "of all", "sink": "without secrets"}}
ALTER TABLE postrider.relays
    ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN declared jsonb NOT NULL DEFAULT '{}';

-- Which destinations there are: who misspells one is told at once, in SQL as on the command line. A build that has a new kind
-- replaces this function by a migration.
-- +goose StatementBegin
CREATE FUNCTION postrider.sink_is_known() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known  text[] := '{http,https,nats,stdout,tls}';
    scheme text := substring(NEW.sink FROM '^([^:]*):');
BEGIN
    IF scheme <> ALL (known) THEN -- without any, a constraint says so
        RAISE EXCEPTION 'sink: the scheme "%" is unknown; known are %', left(scheme, 60), array_to_string(known, ', ') USING ERRCODE = '22023';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER sink_is_known BEFORE INSERT OR UPDATE OF sink ON postrider.subscriptions
    FOR EACH ROW EXECUTE FUNCTION postrider.sink_is_known();

-- A function that answers otherwise has to be made anew; who might execute it still may.
SELECT set_config('postrider.acl', coalesce(proacl::text, ''), true) FROM pg_proc
WHERE oid = 'postrider.subscribe(text, text[], text, jsonb, text)'::regprocedure;
DROP FUNCTION postrider.subscribe(text, text[], text, jsonb, text);

-- Creates a subscription, or changes the one of this name in place: its cursor, its state and what is parked stay, and other topics
-- apply to what comes from now on. start counts for a new one alone. Answers created, changed or unchanged.
-- +goose StatementBegin
CREATE FUNCTION postrider.subscribe(name text, topics text[], sink text, settings jsonb DEFAULT '{}', start text DEFAULT 'now')
    RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    start_base pg_snapshot := postrider.start_snapshot(start);
    wanted     jsonb := coalesce(subscribe.settings, '{}');
    is_now     postrider.subscriptions;
BEGIN
    LOOP
        INSERT INTO postrider.subscriptions (name, topics, sink, settings, started)
        VALUES (subscribe.name, subscribe.topics, subscribe.sink, wanted, start_base)
        ON CONFLICT ON CONSTRAINT subscriptions_pkey DO NOTHING;
        IF FOUND THEN
            INSERT INTO postrider.cursors (subscription, base) VALUES (subscribe.name, start_base);
            RETURN 'created';
        END IF;
        SELECT * INTO is_now FROM postrider.subscriptions s WHERE s.name = subscribe.name FOR NO KEY UPDATE;
        EXIT WHEN FOUND; -- else it was removed in between
    END LOOP;
    -- In another order topics mean the same, and are no change.
    IF subscribe.topics @> is_now.topics AND subscribe.topics <@ is_now.topics THEN
        topics := is_now.topics;
    END IF;
    IF (is_now.topics, is_now.sink, is_now.settings) IS NOT DISTINCT FROM (subscribe.topics, subscribe.sink, wanted) THEN
        RETURN 'unchanged';
    END IF;
    UPDATE postrider.subscriptions s SET topics = subscribe.topics, sink = subscribe.sink, settings = wanted WHERE s.name = subscribe.name;
    RETURN 'changed';
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION postrider.subscribe(text, text[], text, jsonb, text), postrider.sink_is_known() FROM PUBLIC;
-- +goose StatementBegin
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN SELECT a.grantee::regrole::text FROM aclexplode(nullif(current_setting('postrider.acl'), '')::aclitem[]) a
                WHERE a.privilege_type = 'EXECUTE' AND a.grantee <> 0 LOOP
        EXECUTE 'GRANT EXECUTE ON FUNCTION postrider.subscribe(text, text[], text, jsonb, text) TO ' || role;
    END LOOP;
END $$;
-- +goose StatementEnd

-- Who pauses what is paused and gives no reason leaves the one that is there.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION postrider.pause(name text, reason text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE postrider.subscriptions s
    SET state = 'paused', paused_reason = coalesce(pause.reason, CASE WHEN s.state = 'paused' THEN s.paused_reason END)
    WHERE s.name = pause.name;
    RETURN FOUND;
END $$;
-- +goose StatementEnd

-- +goose Down
-- pause stays as it is.
DROP TRIGGER sink_is_known ON postrider.subscriptions;
DROP FUNCTION postrider.sink_is_known(), postrider.subscribe(text, text[], text, jsonb, text);
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
REVOKE ALL ON FUNCTION postrider.subscribe(text, text[], text, jsonb, text) FROM PUBLIC;
ALTER TABLE postrider.relays DROP COLUMN seen_at, DROP COLUMN declared;
