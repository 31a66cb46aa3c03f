SET LOCAL search_path = pg_catalog, pg_temp;

-- Relays read small messages many at a time. A row that is larger, or that may be, they read by itself with these functions: what
-- is wrong with it is its own trouble then.

CREATE FUNCTION postrider.readable_key(key text, longest integer) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    IF octet_length(key) > longest THEN
        RETURN NULL;
    END IF;
    RETURN convert_from(convert_to(key, 'UTF8'), 'UTF8'); -- checked, and no pointer to what is checked later
EXCEPTION WHEN OTHERS THEN
    IF left(SQLSTATE, 2) IN ('22', '53', '54', '58', 'XX') THEN
        RETURN NULL;
    END IF;
    RAISE;
END $$;
COMMENT ON FUNCTION postrider.readable_key IS 'The key, unless it is too long or cannot be read.';

CREATE FUNCTION postrider.long_numbers(document jsonb, most bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    total bigint := 0;
    n     bigint;
BEGIN
    -- An exponent makes twelve bytes 131,072, a scale makes them 16,383: in a small document that is no danger.
    IF pg_column_size(document #> '{}') <= 65536
       AND NOT jsonb_path_exists(document, 'strict $.** ? (@ >= 1e100 || @ <= -1e100)') THEN
        RETURN 0;
    END IF;
    FOR n IN
        SELECT scale(x) + CASE WHEN abs(x) >= 1e100 THEN floor(log(abs(x))) + 1 ELSE 0 END
        FROM (SELECT v::numeric AS x FROM jsonb_path_query(document, 'strict $.** ? (@.type() == "number")') v) q
        WHERE scale(x) > 100 OR abs(x) >= 1e100
    LOOP
        total := total + n;
        EXIT WHEN total > most;
    END LOOP;
    RETURN total;
END $$;
COMMENT ON FUNCTION postrider.long_numbers IS 'How many bytes the numbers of a document that are much longer as text than they are stored have as text, counted up to most.';

CREATE FUNCTION postrider.copied_message(id bigint, created_at timestamptz, careful boolean, OUT payload jsonb, OUT body bytea, OUT headers jsonb)
    RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
BEGIN
    FOR payload, body, headers IN
        SELECT o.payload, o.body, o.headers::jsonb FROM postrider.outbox o
        WHERE o.id = copied_message.id AND o.created_at = copied_message.created_at
    LOOP
        IF careful THEN
            payload := payload #> '{}';
            body := substr(body, 1);
            headers := headers #> '{}';
        END IF;
        RETURN NEXT;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    IF left(SQLSTATE, 2) NOT IN ('22', '53', '54', '58', 'XX') THEN
        RAISE;
    END IF;
END $$;
COMMENT ON FUNCTION postrider.copied_message IS 'A message of the outbox, for somebody who writes it elsewhere. Careful: nothing of it if it is damaged; else that shows only when it is written.';

CREATE FUNCTION postrider.read_message(subscription text, id bigint, created_at timestamptz, longest_key integer, largest bigint, most bigint,
        OUT kind text, OUT size bigint, OUT part bytea)
    RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
    chunk CONSTANT integer := 1048576;
    key   bigint;
    p     jsonb;
    b     bytea;
    h     jsonb;
    doc   bytea; -- p as text
    head  bytea; -- h as text
    state text;
    said  text;
    known boolean;
BEGIN
    IF subscription IS NOT NULL THEN
        SELECT true, octet_length(t.key), t.payload, t.body, t.headers INTO known, key, p, b, h FROM postrider.parked t
        WHERE t.subscription = read_message.subscription AND t.id = read_message.id AND t.created_at = read_message.created_at;
    END IF;
    IF p IS NULL AND b IS NULL THEN
        SELECT true, octet_length(o.key), o.payload, o.body, o.headers::jsonb INTO known, key, p, b, h FROM postrider.outbox o
        WHERE o.id = read_message.id AND o.created_at = read_message.created_at;
    END IF;
    IF known IS NULL OR p IS NULL AND b IS NULL THEN
        RETURN;
    END IF;
    IF key > longest_key THEN
        kind := 'key'; size := key;
        RETURN NEXT;
        RETURN;
    END IF;
    -- Known before anything is read: a body's size, and that of a document that is mostly digits.
    size := octet_length(b);
    IF p IS NOT NULL THEN
        size := postrider.long_numbers(p, greatest(4 * largest, 4294967296));
    END IF;
    IF size > largest THEN
        kind := 'size';
        RETURN NEXT;
        RETURN;
    END IF;
    head := convert_to(h::text, 'UTF8');
    IF p IS NOT NULL THEN
        doc := convert_to(p::text, 'UTF8');
        size := octet_length(doc);
    END IF;
    size := size + coalesce(octet_length(head), 0);
    kind := CASE WHEN size > largest THEN 'size' ELSE 'message' END;
    RETURN NEXT;
    IF size > most OR kind = 'size' THEN
        RETURN;
    END IF;
    IF head IS NOT NULL THEN
        kind := 'headers'; size := octet_length(head); part := head;
        RETURN NEXT;
    END IF;
    kind := CASE WHEN p IS NULL THEN 'body' ELSE 'payload' END;
    doc := coalesce(doc, substr(b, 1)); -- unpacked once
    size := octet_length(doc);
    FOR n IN 0..size / chunk LOOP
        part := substr(doc, n * chunk + 1, chunk);
        RETURN NEXT;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, said = MESSAGE_TEXT;
    IF left(state, 2) NOT IN ('22', '53', '54', '58', 'XX') THEN
        RAISE;
    END IF;
    kind := CASE WHEN left(state, 2) IN ('53', '58') THEN 'trouble' ELSE 'problem' END;
    size := NULL;
    part := convert_to(said || ' (' || state || ')', 'UTF8');
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION postrider.read_message IS 'A message in parts, after a row that says how large it is; that row alone if it has more than most bytes. It is the one that the subscription has parked, or that of the outbox for NULL, or if the parked row has no copy. What stands in its way becomes a row as well: a problem that stays, or trouble that may pass. No row: there is no such message.';

-- Ids may have been set back: the newest by id and by transaction. A time that has not come yet tells nothing (the clock was wrong, or a role
-- that may do so has set it): then the ring does, in which a segment that was current is not current again for fourteen turns.
CREATE FUNCTION postrider.segment_is_old(segment smallint, retention interval) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    newest timestamptz;
    turns  integer := (postrider.current_segment() - segment) & 15;
BEGIN
    IF turns IN (0, 15) THEN
        RETURN false;
    END IF;
    -- The newest by id and by transaction: ids may have been set back.
    newest := greatest((SELECT o.created_at FROM postrider.outbox o WHERE o.segment = segment_is_old.segment ORDER BY o.id DESC LIMIT 1),
                       (SELECT o.created_at FROM postrider.outbox o WHERE o.segment = segment_is_old.segment ORDER BY o.xid DESC LIMIT 1));
    IF newest IS NULL OR newest <= clock_timestamp() THEN
        RETURN coalesce(newest < clock_timestamp() - retention, false);
    END IF;
    RETURN (turns - 1) * (SELECT s.segment_seconds FROM postrider.source s) >= extract(epoch FROM retention);
END $$;
COMMENT ON FUNCTION postrider.segment_is_old IS 'Is the segment old enough to be emptied? Neither current nor next, and its newest row past the retention.';
