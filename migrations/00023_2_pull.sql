SET LOCAL search_path = pg_catalog, pg_temp;

-- Workers come over HTTP for the messages of pull:.
CREATE OR REPLACE FUNCTION postrider.sink_is_known() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    known  text[] := '{http,https,nats,pull,stdout,tls}';
    scheme text := substring(NEW.sink FROM '^([^:]*):');
BEGIN
    IF scheme <> ALL (known) THEN -- without any, a constraint says so
        RAISE EXCEPTION 'sink: the scheme "%" is unknown; known are %', left(scheme, 60), array_to_string(known, ', ') USING ERRCODE = '22023';
    END IF;
    RETURN NEW;
END $$;

-- A worker may ask any relay: one that does not deliver a subscription passes the call on to the one that does.
ALTER TABLE postrider.relays ADD COLUMN url text;
COMMENT ON COLUMN postrider.relays.url IS 'Where other relays reach the port that workers ask, null if they cannot.';

CREATE TABLE postrider.relay_keys (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    key bytea NOT NULL
);
COMMENT ON TABLE postrider.relay_keys IS 'One row: the key by which relays know each other when one passes a worker''s call on. Only relays may read it.';
COMMENT ON COLUMN postrider.relay_keys.one IS 'True: there is one row.';
COMMENT ON COLUMN postrider.relay_keys.key IS '32 bytes, random for all but ten bits.';

INSERT INTO postrider.relay_keys (key)
SELECT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');
