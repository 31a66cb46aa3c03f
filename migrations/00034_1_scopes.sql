SET LOCAL search_path = pg_catalog, pg_temp;

-- Which deployment's file a subscription or a schedule is of, so that one that prunes removes nothing of another's. Beside them, since it is no change
-- of theirs.
CREATE TABLE postrider.scopes (
    kind  text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('subscription', 'schedule')),
    name  text NOT NULL,
    scope text NOT NULL CONSTRAINT scope_is_lower_case_letters_digits_dashes CHECK (scope ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    PRIMARY KEY (kind, name)
);
COMMENT ON TABLE postrider.scopes IS 'The scopes of subscriptions and schedules that were applied with one: --prune removes what has the same one.';
COMMENT ON COLUMN postrider.scopes.kind IS 'subscription or schedule.';
COMMENT ON COLUMN postrider.scopes.name IS 'Its name.';
COMMENT ON COLUMN postrider.scopes.scope IS 'Lower-case letters, digits, _ and -.';

CREATE FUNCTION postrider.put_scope(kind text, name text, scope text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
#variable_conflict use_variable
DECLARE
    has text;
BEGIN
    IF scope ~ '^[a-z0-9][a-z0-9_-]{0,62}$' IS NOT TRUE THEN
        RAISE EXCEPTION 'scope %: must be 1 to 63 lower-case letters, digits, - and _, the first a letter or a digit', quote_nullable(left(scope, 100)) USING ERRCODE = '22023';
    END IF;
    INSERT INTO postrider.scopes (kind, name, scope) VALUES (kind, name, scope) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN true;
    END IF;
    SELECT s.scope INTO has FROM postrider.scopes s WHERE s.kind = put_scope.kind AND s.name = put_scope.name;
    IF has <> scope THEN
        RAISE EXCEPTION 'scope %: it is of scope %: apply it with that one, give it another name, or let it go first: SELECT postrider.drop_scope(%, %)',
            quote_literal(scope), quote_literal(has), quote_literal(kind), quote_literal(name) USING ERRCODE = '22023';
    END IF;
    RETURN false;
END $$;
COMMENT ON FUNCTION postrider.put_scope IS 'Gives a subscription or a schedule that has no scope one; false if it has it already, an error if it has another one. On the command line: --scope of postrider subs apply and of postrider schedules apply.';

CREATE FUNCTION postrider.drop_scope(kind text, name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    DELETE FROM postrider.scopes s WHERE s.kind = drop_scope.kind AND s.name = drop_scope.name;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION postrider.drop_scope IS 'Takes a subscription''s or a schedule''s scope from it: the next one that applies it with a scope gives it that; false if it has none.';

CREATE FUNCTION postrider.scope_goes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    DELETE FROM postrider.scopes s WHERE s.kind = TG_ARGV[0] AND s.name = OLD.name;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION postrider.scope_goes IS 'A scope goes with what has it.';
CREATE TRIGGER scope_goes AFTER DELETE ON postrider.subscriptions FOR EACH ROW EXECUTE FUNCTION postrider.scope_goes('subscription');
CREATE TRIGGER scope_goes AFTER DELETE ON postrider.schedules FOR EACH ROW EXECUTE FUNCTION postrider.scope_goes('schedule');
