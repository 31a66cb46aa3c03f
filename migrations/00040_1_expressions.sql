SET LOCAL search_path = pg_catalog, pg_temp;

-- Expressions are evaluated by relays: where workers take messages in SQL, nobody would.
CREATE FUNCTION postrider.no_expressions() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{filter,transform}'::text[] LOOP
        IF NEW.settings -> name IS NOT NULL THEN
            RAISE EXCEPTION '%: a subscription with the sink sql: has none, for no relay delivers its messages', name USING ERRCODE = '22023',
                HINT = 'Use topics of their own for what these workers want, or the sink pull:, whose messages a relay hands out.';
        END IF;
    END LOOP;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION postrider.no_expressions IS 'Refuses what only relays can do for subscriptions that none of them delivers.';

CREATE TRIGGER no_expressions BEFORE INSERT OR UPDATE ON postrider.subscriptions
    FOR EACH ROW WHEN (NEW.sink LIKE 'sql:%') EXECUTE FUNCTION postrider.no_expressions();
