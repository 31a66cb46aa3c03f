SET LOCAL search_path = pg_catalog, pg_temp;

-- Who was told of, so that one relay of several tells, and once. Written only while somebody wants to know.
CREATE TABLE postrider.retention_holders (
    holder   text PRIMARY KEY,
    segments integer     NOT NULL,
    told_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE postrider.retention_holders IS 'Who keeps segments of the outbox from being emptied, as operators were told.';
COMMENT ON COLUMN postrider.retention_holders.holder IS 'A subscription, a session or a prepared transaction, as relays tell them apart.';
COMMENT ON COLUMN postrider.retention_holders.segments IS 'How many segments it held when it was told.';
COMMENT ON COLUMN postrider.retention_holders.told_at IS 'When that was.';
COMMENT ON COLUMN postrider.retention_holders.seen_at IS 'When a relay last found it, to a few minutes. It is forgotten a quarter of an hour after that.';

CREATE FUNCTION postrider.event_is_wanted(kind text, subject text) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off AS $$
    SELECT EXISTS (SELECT FROM postrider.subscriptions s WHERE postrider.wants_events(s.topics)
                   AND concat('$postrider.', kind, '.', subject) ~ postrider.topic_regex(s.topics))
$$;
COMMENT ON FUNCTION postrider.event_is_wanted IS 'Whether a subscription names events of the kind, of this subject.';

-- Each is told when it is first found, and again when it holds more, but not within the hour.
CREATE FUNCTION postrider.note_holders(holders text[], subjects text[], reasons text[], segments integer[], details jsonb[]) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    news   boolean;
    told   bigint := 0;
    h      record;
BEGIN
    DELETE FROM postrider.retention_holders r WHERE r.seen_at NOT BETWEEN moment - interval '15 minutes' AND moment + interval '15 minutes';
    FOR h IN SELECT u.* FROM unnest(holders, subjects, reasons, segments, details) u (holder, subject, reason, segments, details) ORDER BY u.holder LOOP
        CONTINUE WHEN NOT postrider.event_is_wanted('retention_held', h.subject);
        INSERT INTO postrider.retention_holders (holder, segments) VALUES (h.holder, h.segments) ON CONFLICT DO NOTHING;
        news := FOUND;
        IF NOT news THEN
            UPDATE postrider.retention_holders r SET segments = h.segments, told_at = moment, seen_at = moment
            WHERE r.holder = h.holder AND r.segments < h.segments AND r.told_at < moment - interval '1 hour';
            news := FOUND;
        END IF;
        IF news THEN
            PERFORM postrider.note_event('retention_held', h.subject, h.reason, h.details);
            told := told + 1;
        ELSE
            UPDATE postrider.retention_holders r SET seen_at = moment WHERE r.holder = h.holder AND r.seen_at < moment - interval '5 minutes';
        END IF;
    END LOOP;
    RETURN told;
END $$;
COMMENT ON FUNCTION postrider.note_holders IS 'Relays call it with whoever has kept segments from being emptied for a while: which of them operators are to be told of, if somebody asks for that. Returns how many.';

CREATE FUNCTION postrider.segment_needed_by(segment smallint) RETURNS TABLE (subscription text, state text, reason text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT s.name, s.state, coalesce(s.paused_reason, (SELECT min(c.trouble) FROM postrider.cursors c WHERE c.subscription = s.name))
    FROM postrider.subscriptions s
    WHERE EXISTS (
        SELECT FROM (
            SELECT c.base FROM postrider.cursors c WHERE c.subscription = s.name
            UNION ALL
            SELECT CASE WHEN p.target IS NULL AND f.version = t.version AND pg_snapshot_xmax(p.base) < pg_snapshot_xmax(f.base) THEN f.base ELSE p.base END
            FROM postrider.shard_settings t
            JOIN postrider.shard_places p ON p.subscription = t.subscription
            LEFT JOIN LATERAL (SELECT k.* FROM postrider.shard_positions k WHERE k.subscription = t.subscription AND k.shard = 0 ORDER BY k.seq DESC LIMIT 1) f ON true
            WHERE t.subscription = s.name) b
        WHERE EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = segment_needed_by.segment AND o.xid >= pg_snapshot_xmax(b.base))
           OR EXISTS (SELECT FROM postrider.outbox o WHERE o.segment = segment_needed_by.segment AND o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(b.base)))))
    ORDER BY 1
$$;
COMMENT ON FUNCTION postrider.segment_needed_by IS 'Which subscriptions have not settled all of a segment, and why, if that is known.';
