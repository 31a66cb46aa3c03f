SET LOCAL search_path = pg_catalog, pg_temp;

-- A key can be damaged only where it is stored apart from its row, and for that it has to be the largest value of a row of more than 2,000 bytes:
-- shorter ones are not tried. Their length is in the row.
CREATE FUNCTION postrider.unreadable_key(key text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF octet_length(key) > 255 THEN
        PERFORM convert_to(key, 'SQL_ASCII');
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_corrupted OR internal_error OR io_error OR undefined_file OR program_limit_exceeded OR data_exception THEN
    RETURN 'its key cannot be read: ' || SQLERRM;
END $$;
COMMENT ON FUNCTION postrider.unreadable_key IS 'Why a message''s key cannot be read; null if it can.';

CREATE OR REPLACE FUNCTION postrider.unreadable(payload jsonb, body bytea, headers jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    PERFORM length(payload::text), length(body::text), length(headers::text);
    RETURN NULL;
EXCEPTION WHEN data_corrupted OR internal_error OR io_error OR undefined_file OR program_limit_exceeded OR data_exception THEN
    RETURN 'it cannot be read: ' || SQLERRM;
END $$;

CREATE FUNCTION postrider.unfit_key(key text) RETURNS text
    LANGUAGE sql STABLE
    RETURN CASE WHEN octet_length(key) > 255 THEN coalesce(postrider.unreadable_key(key), CASE WHEN octet_length(key) > 2000
        THEN format('its key has %s bytes: workers in SQL take messages whose key has 2000 at most', octet_length(key)) END) END;
COMMENT ON FUNCTION postrider.unfit_key IS 'Why workers in SQL cannot have a message because of its key; null if they can. One of more than 2,000 bytes does not fit into the index of parked messages.';

CREATE FUNCTION postrider.shard_of_long(key text, id bigint, shards integer) RETURNS integer
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    RETURN 1 + get_byte(sha256(convert_to(key, 'SQL_ASCII')), 0) % shards;
EXCEPTION WHEN data_corrupted OR internal_error OR io_error OR undefined_file OR program_limit_exceeded OR data_exception THEN
    RETURN 1 + abs(id % shards);
END $$;
COMMENT ON FUNCTION postrider.shard_of_long IS 'postrider.shard_of for a key that may be damaged: then it counts as none.';

CREATE OR REPLACE FUNCTION postrider.shard_of(key text, id bigint, shards integer) RETURNS smallint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN shards = 1 THEN 1
                WHEN key IS NULL THEN 1 + abs(id % shards)
                WHEN octet_length(key) > 255 THEN postrider.shard_of_long(key, id, shards)
                ELSE 1 + get_byte(sha256(convert_to(key, 'SQL_ASCII')), 0) % shards END::smallint;
COMMENT ON FUNCTION postrider.shard_of IS 'Which of so many shards a message belongs to, from 1: by the first byte of the SHA-256 of its key; by its id without a key, or with one that cannot be read.';

-- With all shards locked: a key that can be read again belongs to another shard than its message was parked in.
CREATE FUNCTION postrider.read_again(subscription text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    s   postrider.shard_settings;
    p   postrider.parked;
    m   record;
    why text;
BEGIN
    SELECT * INTO s FROM postrider.shard_settings t WHERE t.subscription = read_again.subscription;
    FOR p IN SELECT * FROM postrider.parked q WHERE q.subscription = s.subscription AND q.state = 'retrying' AND q.payload IS NULL AND q.body IS NULL LOOP
        why := 'it cannot be read: the outbox does not have it any more';
        FOR m IN SELECT r.* FROM unnest(postrider.filled_segments()) leaf CROSS JOIN LATERAL postrider.shard_messages(leaf, ARRAY[p.id], NULL) r
                WHERE r.created_at = p.created_at LOOP
            why := coalesce(postrider.unfit_key(m.key), postrider.unreadable(m.payload, m.body, m.headers));
            IF why IS NULL THEN
                UPDATE postrider.parked q SET key = m.key, payload = m.payload, body = m.body, headers = m.headers,
                    shard = postrider.shard_for(s, m.key, m.id, m.priority)
                WHERE q.subscription = p.subscription AND q.id = p.id AND q.created_at = p.created_at;
            END IF;
        END LOOP;
        IF why IS NOT NULL THEN
            UPDATE postrider.parked q SET state = 'dead', due = NULL, reason = why
            WHERE q.subscription = p.subscription AND q.id = p.id AND q.created_at = p.created_at;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.read_again IS 'Messages that workers take from in SQL and that could not be read are read once more when they are redriven; those that still cannot are dead again.';

DO $$
DECLARE
    e   record;
    def text;
BEGIN
    FOR e IN SELECT * FROM (VALUES
        ('take_thoroughly',
         'IF r.deliver_at > moment OR r.id = ANY (c.batch) OR c.parked',
         $n$IF octet_length(r.key) > 255 THEN
                    why := postrider.unfit_key(r.key);
                    IF why IS NOT NULL THEN
                        INSERT INTO postrider.parked (subscription, shard, id, created_at, xid, state, attempts, reason, topic, priority)
                        VALUES (sub, h.shard, r.id, r.created_at, r.xid, 'dead', CASE WHEN r.id & 137438953471 = suspect THEN prior ELSE 0 END, why, r.topic, r.priority)
                        ON CONFLICT ON CONSTRAINT parked_pkey DO NOTHING;
                        c.parked := true; passed := passed + 1;
                    END IF;
                    IF why IS NOT NULL OR EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = sub AND p.id = r.id AND p.created_at = r.created_at) THEN
                        c.after_id := r.id;
                        CONTINUE;
                    END IF;
                END IF;
                IF r.deliver_at > moment OR r.id = ANY (c.batch) OR c.parked$n$),
        -- Damage may come between two shards: whichever comes to it first says so.
        ('shard_page', 'postrider.shard_of(o.key, o.id, s.shards) = postrider.key_shard(c.shard, s.shards)',
         '(postrider.shard_of(o.key, o.id, s.shards) = postrider.key_shard(c.shard, s.shards) OR CASE WHEN octet_length(o.key) > 255 THEN postrider.unreadable_key(o.key) IS NOT NULL ELSE false END)'),
        ('redrive',
         E's.name = redrive.subscription AND n > 0;\n',
         E's.name = redrive.subscription AND n > 0;\n    PERFORM postrider.read_again(subscription);\n'),
        ('do_operation',
         E't.name = o.subscription AND n > 0;\n',
         E't.name = o.subscription AND n > 0;\n        PERFORM postrider.read_again(o.subscription);\n')
        ) AS r (name, was, is_now)
    LOOP
        def := pg_get_functiondef(format('postrider.%I', e.name)::regproc);
        IF strpos(def, e.was) = 0 THEN
            RAISE EXCEPTION 'postrider.% has not what is to be replaced: %', e.name, e.was;
        END IF;
        EXECUTE replace(def, e.was, e.is_now);
    END LOOP;
END $$;
