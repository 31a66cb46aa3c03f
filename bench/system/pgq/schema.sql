CREATE SCHEMA ticks;

CREATE SEQUENCE ticks.event_id;
CREATE TABLE ticks.event_0 (
    id      bigint NOT NULL,
    xid     xid8 NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    topic   text NOT NULL,
    payload jsonb NOT NULL
) WITH (autovacuum_enabled = off);
CREATE TABLE ticks.event_1 (LIKE ticks.event_0 INCLUDING ALL) WITH (autovacuum_enabled = off);
CREATE TABLE ticks.event_2 (LIKE ticks.event_0 INCLUDING ALL) WITH (autovacuum_enabled = off);
CREATE INDEX ON ticks.event_0 (xid);
CREATE INDEX ON ticks.event_1 (xid);
CREATE INDEX ON ticks.event_2 (xid);

-- Which table takes events, and the transaction that has said so.
CREATE TABLE ticks.queue (current smallint NOT NULL, switched xid8 NOT NULL, at timestamptz NOT NULL DEFAULT now());
INSERT INTO ticks.queue VALUES (0, pg_current_xact_id());

CREATE TABLE ticks.tick (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    snapshot pg_snapshot NOT NULL,
    event    bigint NOT NULL -- the last id that was drawn
);
INSERT INTO ticks.tick (snapshot, event) VALUES (pg_current_snapshot(), 0);

CREATE TABLE ticks.consumer (name text PRIMARY KEY, last bigint NOT NULL);
INSERT INTO ticks.consumer SELECT 'bench', max(id) FROM ticks.tick;

-- The transaction has its id before it looks which table takes events: rotate rests on that.
CREATE FUNCTION ticks.insert_event(topic text, payload jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    mine xid8 := pg_current_xact_id();
    n bigint := nextval('ticks.event_id');
BEGIN
    CASE (SELECT current FROM ticks.queue)
        WHEN 0 THEN INSERT INTO ticks.event_0 VALUES (n, mine, DEFAULT, topic, payload);
        WHEN 1 THEN INSERT INTO ticks.event_1 VALUES (n, mine, DEFAULT, topic, payload);
        ELSE INSERT INTO ticks.event_2 VALUES (n, mine, DEFAULT, topic, payload);
    END CASE;
    RETURN n;
END $$;

-- Makes a tick if there is something new: ids that were drawn, or transactions that ran at the last tick and have ended. Ids are read before the snapshot is
-- taken, but a transaction that has drawn one may be in no snapshot yet: hence one tick a second at least.
CREATE FUNCTION ticks.tick() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    drawn bigint := (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM ticks.event_id s);
BEGIN
    INSERT INTO ticks.tick (snapshot, event)
    SELECT n.snapshot, drawn
    FROM (SELECT pg_current_snapshot() AS snapshot) n, (SELECT t.snapshot, t.event, t.at FROM ticks.tick t ORDER BY t.id DESC LIMIT 1) t
    WHERE drawn > t.event OR t.at < now() - interval '1 second'
       OR pg_snapshot_xmin(t.snapshot) < pg_snapshot_xmax(t.snapshot) AND pg_snapshot_xmin(n.snapshot) > pg_snapshot_xmin(t.snapshot);
END $$;

-- The table that is next is free once all consumers have passed the transactions that ran when the current one became so: who writes into an older one
-- has begun before.
CREATE FUNCTION ticks.rotate(period interval) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    next smallint;
BEGIN
    SELECT (q.current + 1) % 3 INTO next FROM ticks.queue q
    WHERE q.at < now() - period AND q.switched < (SELECT pg_snapshot_xmin(t.snapshot) FROM ticks.tick t WHERE t.id = (SELECT min(last) FROM ticks.consumer));
    IF next IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('TRUNCATE ticks.event_%s', next);
    UPDATE ticks.queue SET current = next, switched = pg_current_xact_id(), at = now();
    DELETE FROM ticks.tick WHERE id < (SELECT min(last) FROM ticks.consumer);
    RETURN true;
END $$;
