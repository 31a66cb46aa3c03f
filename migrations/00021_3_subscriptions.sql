SET LOCAL search_path = pg_catalog, pg_temp;

-- Patterns are turned into one regular expression, so that a query over many rows compiles it once.
CREATE FUNCTION postrider.topic_regex(patterns text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (
        SELECT '^(' || coalesce(string_agg(replace(replace(
            regexp_replace(p, '([\\^$|?+.(){}\[\]])', '\\\1', 'g'), '*', '[^.]+'), '>', '.+'), '|' ORDER BY n), '') || ')$'
        FROM unnest(patterns) WITH ORDINALITY t (p, n));
COMMENT ON FUNCTION postrider.topic_regex IS 'The regular expression of a list of patterns. As in NATS, * is one token, a trailing > one or more. An empty list matches no topic.';

CREATE FUNCTION postrider.valid_patterns(patterns text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(array_ndims(patterns) = 1, false) AND (
        SELECT bool_and(p IS NOT NULL AND length(p) <= 255
            AND p COLLATE "C" ~ '^(>|(\*|[!-#%-)+,/-=?-~-][!-)+,/-=?-~-]*)(\.(\*|[!-)+,/-=?-~-]+))*(\.>)?)$')
        FROM unnest(patterns) p);
COMMENT ON FUNCTION postrider.valid_patterns IS 'Whether these are patterns of topics, at least one.';

CREATE FUNCTION postrider.topics_at(topics text[], earlier jsonb, xid xid8) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce((
        SELECT ARRAY(SELECT jsonb_array_elements_text(e -> 'topics'))
        FROM jsonb_array_elements(earlier) WITH ORDINALITY t (e, n)
        WHERE pg_visible_in_snapshot(topics_at.xid, (e ->> 'until')::pg_snapshot) ORDER BY n LIMIT 1), topics_at.topics);
COMMENT ON FUNCTION postrider.topics_at IS 'The topics of a subscription that apply to a transaction''s messages.';

-- Checks run with the rights of who writes: PUBLIC may execute it, which shows nothing.
CREATE FUNCTION postrider.valid_earlier(earlier jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    e jsonb;
BEGIN
    IF jsonb_typeof(earlier) <> 'array' THEN
        RETURN false;
    END IF;
    FOR e IN SELECT jsonb_array_elements(earlier) LOOP
        IF e ->> 'until' IS NULL OR (e ->> 'until')::pg_snapshot IS NULL
           OR postrider.valid_patterns(ARRAY(SELECT jsonb_array_elements_text(e -> 'topics'))) IS NOT TRUE THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
EXCEPTION WHEN data_exception THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION postrider.valid_earlier IS 'Whether this is a list of earlier topics, as subscriptions.earlier has it.';

CREATE TABLE postrider.subscriptions (
    name          text PRIMARY KEY
                  CONSTRAINT name_is_lower_case_letters_digits_dashes CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    topics        text[] NOT NULL
                  CONSTRAINT topics_are_patterns CHECK (postrider.valid_patterns(topics)),
    sink          text NOT NULL
                  CONSTRAINT sink_is_a_url CHECK (sink ~ '^[a-z][a-z0-9+.-]*:'),
    settings      jsonb NOT NULL DEFAULT '{}'
                  CONSTRAINT settings_are_an_object CHECK (jsonb_typeof(settings) = 'object'),
    state         text NOT NULL DEFAULT 'active'
                  CONSTRAINT state_is_known CHECK (state IN ('active', 'paused')),
    paused_reason text,
    started       pg_snapshot NOT NULL,
    earlier       jsonb NOT NULL DEFAULT '[]'
                  CONSTRAINT earlier_is_a_list_of_topics_with_snapshots CHECK (postrider.valid_earlier(earlier)),
    version       bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0); -- that there are few is worth knowing
COMMENT ON TABLE postrider.subscriptions IS 'Who wants what, and where it goes.';
COMMENT ON COLUMN postrider.subscriptions.name IS 'Lower-case letters, digits, _ and -.';
COMMENT ON COLUMN postrider.subscriptions.topics IS 'Patterns, of which one must match.';
COMMENT ON COLUMN postrider.subscriptions.sink IS 'The destination''s URL; secrets in it are references.';
COMMENT ON COLUMN postrider.subscriptions.settings IS 'What is not the default, by the names that `postrider settings` prints.';
COMMENT ON COLUMN postrider.subscriptions.state IS 'active or paused.';
COMMENT ON COLUMN postrider.subscriptions.paused_reason IS 'Why it is paused, if that was said.';
COMMENT ON COLUMN postrider.subscriptions.started IS 'What this snapshot sees was never meant for the subscription.';
COMMENT ON COLUMN postrider.subscriptions.earlier IS 'Topics before a change apply to what their snapshot sees: [{"topics": [...], "until": "snapshot"}], oldest first.';
COMMENT ON COLUMN postrider.subscriptions.version IS 'Raised by every change, so that the owner reloads.';
COMMENT ON COLUMN postrider.subscriptions.created_at IS 'When it was created.';
COMMENT ON COLUMN postrider.subscriptions.updated_at IS 'When it was last changed.';

-- UNLOGGED on purpose: PostgreSQL empties it after a crash and on a promoted standby, which is how a relay learns that snapshots in its
-- memory may have become void.
CREATE UNLOGGED TABLE postrider.relays (
    incarnation uuid PRIMARY KEY,
    name        text NOT NULL,
    version     text NOT NULL,
    counter     bigint NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    unable      jsonb NOT NULL DEFAULT '{}',
    declared    jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE postrider.relays IS 'One row per running relay. A relay whose row is gone starts anew.';
COMMENT ON COLUMN postrider.relays.incarnation IS 'This start of the relay: what owners of cursors are known by.';
COMMENT ON COLUMN postrider.relays.name IS 'The relay''s name, for people.';
COMMENT ON COLUMN postrider.relays.version IS 'Its build.';
COMMENT ON COLUMN postrider.relays.counter IS 'Counted up with each renewal of the lease: others see that it lives.';
COMMENT ON COLUMN postrider.relays.started_at IS 'When it registered.';
COMMENT ON COLUMN postrider.relays.seen_at IS 'When it last renewed its lease, by this server''s clock.';
COMMENT ON COLUMN postrider.relays.unable IS 'What it cannot deliver though others may, for something that it lacks: {"subscription": {"version": of the subscription, "reason": text, "since": time}}.';
COMMENT ON COLUMN postrider.relays.declared IS 'What its environment and its file say of subscriptions, so that two that say different things of one are told of each other: {"name": {"sum": "of all", "sink": "without secrets"}}.';

CREATE TABLE postrider.cursors (
    subscription text NOT NULL REFERENCES postrider.subscriptions (name) ON DELETE CASCADE,
    shard        smallint NOT NULL DEFAULT 0,
    class        smallint NOT NULL DEFAULT 0,
    epoch        bigint NOT NULL DEFAULT 1,
    owner        uuid,
    base         pg_snapshot NOT NULL,
    target       pg_snapshot,
    after_id     bigint,
    done         int8multirange NOT NULL DEFAULT '{}',
    done_ids     int8multirange[] NOT NULL DEFAULT '{}',
    done_first   timestamptz[]    NOT NULL DEFAULT '{}',
    done_last    timestamptz[]    NOT NULL DEFAULT '{}',
    trouble      text,
    saved_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscription, shard, class),
    CONSTRAINT target_goes_with_after_id CHECK ((target IS NULL) = (after_id IS NULL)),
    CONSTRAINT done_is_bounded CHECK (NOT lower_inf(done) AND NOT upper_inf(done)),
    CONSTRAINT done_is_in_runs CHECK (cardinality(done_ids) = cardinality(done_first) AND cardinality(done_ids) = cardinality(done_last))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE postrider.cursors IS 'How far each part of a subscription has come. Settled is all that is visible in base; of the pass under way, all that is visible in target with id <= after_id; and what is in done.';
COMMENT ON COLUMN postrider.cursors.subscription IS 'Whose cursor it is.';
COMMENT ON COLUMN postrider.cursors.shard IS 'Which share of the keys: 0, for all of them.';
COMMENT ON COLUMN postrider.cursors.class IS 'Which priority: 0, for all of them.';
COMMENT ON COLUMN postrider.cursors.epoch IS 'Raised by whoever takes the cursor over or changes its history: who knows an older one can write nothing.';
COMMENT ON COLUMN postrider.cursors.owner IS 'The incarnation of the relay that delivers.';
COMMENT ON COLUMN postrider.cursors.base IS 'All that this snapshot sees is settled.';
COMMENT ON COLUMN postrider.cursors.target IS 'Of a pass over the table: what it looks for.';
COMMENT ON COLUMN postrider.cursors.after_id IS 'Of a pass over the table: up to which id it has come.';
COMMENT ON COLUMN postrider.cursors.done IS 'Ids that are settled beyond, by rebase: they count for what was created before saved_at.';
COMMENT ON COLUMN postrider.cursors.done_ids IS 'Ids that are settled beyond, in runs: those of done_ids[n] count for what was created from done_first[n] to done_last[n].';
COMMENT ON COLUMN postrider.cursors.done_first IS 'The first creation of each run of done_ids.';
COMMENT ON COLUMN postrider.cursors.done_last IS 'The last creation of each run of done_ids.';
COMMENT ON COLUMN postrider.cursors.trouble IS 'Why deliveries stand still, when they do.';
COMMENT ON COLUMN postrider.cursors.saved_at IS 'When progress was last written.';

CREATE TABLE postrider.parked (
    subscription text NOT NULL REFERENCES postrider.subscriptions (name) ON DELETE CASCADE,
    shard        smallint NOT NULL DEFAULT 0,
    class        smallint NOT NULL DEFAULT 0,
    id           bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    xid          xid8,
    state        text NOT NULL
                 CONSTRAINT state_is_known CHECK (state IN
                     ('retrying', 'held', 'scheduled', 'leased', 'completed', 'failed', 'dead', 'discarded')),
    attempts     integer NOT NULL DEFAULT 0,
    due          timestamptz,
    reason       text,
    token        bigint,
    lease        interval,
    parked_at    timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    topic        text NOT NULL,
    key          text,
    payload      jsonb,
    body         bytea,
    headers      jsonb,
    PRIMARY KEY (subscription, id, created_at)
);
COMMENT ON TABLE postrider.parked IS 'The exceptions: deliveries that did not simply work, each with a copy of its message.';
COMMENT ON COLUMN postrider.parked.subscription IS 'Whose delivery it is.';
COMMENT ON COLUMN postrider.parked.shard IS 'The part of the subscription whose cursor passed the message: its shard.';
COMMENT ON COLUMN postrider.parked.class IS 'The part of the subscription whose cursor passed the message: its class.';
COMMENT ON COLUMN postrider.parked.id IS 'The message''s id in the outbox.';
COMMENT ON COLUMN postrider.parked.created_at IS 'The message''s creation: ids may come again.';
COMMENT ON COLUMN postrider.parked.xid IS 'The message''s transaction, null if that is not known: ids and clocks may be set back, transaction ids tell which of them was.';
COMMENT ON COLUMN postrider.parked.state IS 'retrying: tried again when due. held: waits behind another message of its key. scheduled: waits for its time. leased: the receiver has taken it and will call back, until due. completed, failed: it has called back. dead: given up. discarded: given up for good.';
COMMENT ON COLUMN postrider.parked.attempts IS 'How often it was tried.';
COMMENT ON COLUMN postrider.parked.due IS 'When it is tried, or its lease ends.';
COMMENT ON COLUMN postrider.parked.reason IS 'What was wrong with the last attempt.';
COMMENT ON COLUMN postrider.parked.token IS 'Of the last attempt that was leased: a callback for any other changes nothing.';
COMMENT ON COLUMN postrider.parked.lease IS 'How long its lease is.';
COMMENT ON COLUMN postrider.parked.parked_at IS 'When it became an exception.';
COMMENT ON COLUMN postrider.parked.updated_at IS 'When that last changed.';
COMMENT ON COLUMN postrider.parked.topic IS 'The message''s topic.';
COMMENT ON COLUMN postrider.parked.key IS 'The message''s key.';
COMMENT ON COLUMN postrider.parked.payload IS 'The message, if it is JSON.';
COMMENT ON COLUMN postrider.parked.body IS 'The message, if it is bytes.';
COMMENT ON COLUMN postrider.parked.headers IS 'The message''s headers.';

CREATE INDEX parked_due ON postrider.parked (subscription, due) WHERE state IN ('retrying', 'scheduled');
-- What a callback has changed, and leases that may be over.
CREATE INDEX parked_called_back ON postrider.parked (subscription, id) WHERE state IN ('completed', 'failed');
CREATE INDEX parked_leases ON postrider.parked (subscription, due) WHERE state = 'leased';
-- What is over, in the order in which it expires.
CREATE INDEX parked_over ON postrider.parked (state, updated_at, subscription, id, created_at) WHERE state IN ('dead', 'discarded');

-- A build that has a new kind of destination replaces this function by a migration.
CREATE FUNCTION postrider.sink_is_known() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    known  text[] := '{http,https,nats,stdout,tls}';
    scheme text := substring(NEW.sink FROM '^([^:]*):');
BEGIN
    IF scheme <> ALL (known) THEN -- without any, a constraint says so
        RAISE EXCEPTION 'sink: the scheme "%" is unknown; known are %', left(scheme, 60), array_to_string(known, ', ') USING ERRCODE = '22023';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION postrider.sink_is_known IS 'Which destinations there are: who misspells one is told at once, in SQL as on the command line.';

CREATE TRIGGER sink_is_known BEFORE INSERT OR UPDATE OF sink ON postrider.subscriptions
    FOR EACH ROW EXECUTE FUNCTION postrider.sink_is_known();

CREATE FUNCTION postrider.subscription_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF NEW.topics IS DISTINCT FROM OLD.topics THEN
        PERFORM postrider.require_this_cluster();
        UPDATE postrider.cursors c SET epoch = c.epoch + 1 WHERE c.subscription = OLD.name;
        NEW.earlier := (
            SELECT coalesce(jsonb_agg(e ORDER BY n), '[]') FROM jsonb_array_elements(OLD.earlier) WITH ORDINALITY t (e, n)
            -- Forgotten when no retained message is older: a replay may come back to those.
            WHERE EXISTS (SELECT FROM postrider.outbox o WHERE o.xid < pg_snapshot_xmax((e ->> 'until')::pg_snapshot)
                          AND pg_visible_in_snapshot(o.xid, (e ->> 'until')::pg_snapshot))
        ) || jsonb_build_object('topics', OLD.topics, 'until', postrider.snapshot_before_me()::text);
    END IF;
    IF (NEW.topics, NEW.sink, NEW.settings, NEW.state, NEW.paused_reason, NEW.started::text)
       IS DISTINCT FROM (OLD.topics, OLD.sink, OLD.settings, OLD.state, OLD.paused_reason, OLD.started::text) THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := now();
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION postrider.subscription_changed IS 'Every change raises the version, so that the owner reloads. A change of topics also raises the epoch: what the owner has settled by the old topics since its last save is void.';

CREATE TRIGGER subscription_changed BEFORE UPDATE ON postrider.subscriptions
    FOR EACH ROW EXECUTE FUNCTION postrider.subscription_changed();
