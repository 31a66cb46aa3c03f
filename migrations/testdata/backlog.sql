-- An exact look at one subscription: what it has not settled, row by row.
CREATE FUNCTION public.backlog(name text, OUT messages bigint, OUT oldest timestamptz, OUT segments bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    s       postrider.subscriptions;
    c       postrider.cursors;
    regex   text;
    top     xid8;
    running xid8[];
BEGIN
    SELECT * INTO s FROM postrider.subscriptions t WHERE t.name = backlog.name;
    SELECT * INTO c FROM postrider.cursors t WHERE t.subscription = backlog.name;
    IF s.earlier <> '[]' AND NOT postrider.valid_earlier(s.earlier) THEN
        s.earlier := '[]'; -- it is paused for that: status must not fail for all
    END IF;
    regex := postrider.topic_regex(s.topics);
    top := pg_snapshot_xmax(c.base);
    running := ARRAY(SELECT pg_snapshot_xip(c.base));
    -- No difference can be taken to what is infinite: status would fail for all.
    SELECT count(*), min(w.created_at) FILTER (WHERE isfinite(w.created_at)) INTO messages, oldest
    FROM (SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o WHERE o.xid >= top
          UNION ALL
          SELECT o.id, o.xid, o.topic, o.created_at FROM postrider.outbox o WHERE o.xid = ANY (running)) w
    WHERE w.topic ~ CASE WHEN s.earlier = '[]' THEN regex
                         ELSE postrider.topic_regex(postrider.topics_at(s.topics, s.earlier, w.xid)) END
      AND NOT coalesce(w.id <= c.after_id AND pg_visible_in_snapshot(w.xid, c.target), false)
      AND NOT (c.done @> w.id AND w.created_at <= c.saved_at)
      AND (c.done_ids = '{}' OR NOT EXISTS (SELECT FROM unnest(c.done_ids, c.done_first, c.done_last) d (ids, first, last)
                                            WHERE d.ids @> w.id AND w.created_at BETWEEN d.first AND d.last))
      AND NOT EXISTS (SELECT FROM postrider.parked p
                      WHERE p.subscription = backlog.name AND p.id = w.id AND p.created_at = w.created_at);
    -- Scalar queries stop at the first row of each segment.
    SELECT count(*) INTO segments FROM generate_series(0, 15) g (segment)
    WHERE coalesce((SELECT true FROM postrider.outbox o WHERE o.segment = g.segment::smallint AND o.xid >= top LIMIT 1),
                   (SELECT true FROM postrider.outbox o WHERE o.segment = g.segment::smallint AND o.xid = ANY (running) LIMIT 1));
END $$;
