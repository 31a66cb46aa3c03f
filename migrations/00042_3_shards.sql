SET LOCAL search_path = pg_catalog, pg_temp;

-- Whatever asks which shard a message is of, or whose lock that is, or how far all of them have come.
DO $$
DECLARE
    e   record;
    def text;
BEGIN
    FOR e IN SELECT r.name, array_agg(r.was) AS was, array_agg(r.is_now) AS is_now FROM (VALUES
        ('shard_page', 'postrider.shard_of(o.key, o.id, s.shards) = c.shard',
         '(s.classes = 1 OR postrider.shard_class(c.shard, s.shards) = postrider.class_of(o.priority)) AND postrider.shard_of(o.key, o.id, s.shards) = postrider.key_shard(c.shard, s.shards)'),
        ('shard_peek', 'SELECT p.id, p.key, p.topic, p.xid FROM',
         'SELECT p.id, p.key, p.topic, p.xid, p.priority FROM'),
        ('shard_peek', 'THEN postrider.shard_of(o.key, o.id, n) END AS shard',
         'THEN postrider.shard_for(s, o.key, o.id, o.priority) END AS shard'),
        ('shard_peek', E'    n        integer := s.shards;\n',
         E'    -- The classes that are looked for: what is of others is not counted.\n    lowest   smallint := CASE WHEN shards[1] <= s.shards THEN -32768 ELSE postrider.shard_class(shards[1], s.shards) END;\n    highest  smallint := CASE WHEN shards[cardinality(shards)] > (s.classes - 1) * s.shards THEN 32767 ELSE postrider.shard_class(shards[cardinality(shards)], s.shards) END;\n'),
        ('shard_peek', E'p WHERE p.xid >= top\n',
         E'p WHERE p.xid >= top AND p.priority BETWEEN lowest AND highest\n'),
        ('shard_peek', 'AND p.xid < top) u',
         'AND p.xid < top AND p.priority BETWEEN lowest AND highest) u'),
        ('take', 'AND p.going AND t.active AND',
         'AND p.going AND t.active AND t.classes = 1 AND'),
        ('raise_floors', 'k.shard = 0 ORDER',
         'k.shard = postrider.floor_of(p.shard, t.shards) ORDER'),
        ('raise_floors', 'near.bases[postrider.shard_of(o.key, o.id, t.shards)]',
         'near.bases[postrider.shard_for(t, o.key, o.id, o.priority)]'),
        ('raise_floors', 'PERFORM postrider.raise_floor(idle.settings, here);',
         'PERFORM postrider.raise_floor(idle.settings, here, g::smallint) FROM generate_series(0, 1 - (idle.settings).classes, -1) g;'),
        ('segment_needed_by', 'k.shard = 0 ORDER',
         'k.shard = postrider.floor_of(p.shard, t.shards) ORDER'),
        ('shard_bases', 'k.shard = 0 ORDER',
         'k.shard = postrider.floor_of(p.shard, t.shards) ORDER'),
        ('shard_backlogs', E'    floor   postrider.shard_positions;\n',
         ''),
        ('shard_backlogs', E'        floor := postrider.shard_position(s.subscription, 0);\n        IF floor.version <> s.version THEN floor := NULL; END IF;\n',
         ''),
        ('shard_backlogs', 'FROM postrider.shard_places k CROSS JOIN LATERAL (SELECT CASE WHEN k.target IS NULL AND pg_snapshot_xmax(k.base) < pg_snapshot_xmax(floor.base) THEN floor.base ELSE k.base END AS base) b',
         E'FROM postrider.shard_places k\n        LEFT JOIN LATERAL (SELECT p.version, p.base FROM postrider.shard_positions p WHERE p.subscription = s.subscription\n            AND p.shard = postrider.floor_of(k.shard, s.shards) ORDER BY p.seq DESC LIMIT 1) f ON true\n        CROSS JOIN LATERAL (SELECT CASE WHEN k.target IS NULL AND f.version = s.version AND pg_snapshot_xmax(k.base) < pg_snapshot_xmax(f.base) THEN f.base ELSE k.base END AS base) b'),
        ('shard_backlogs', 'postrider.shard_of(o.key, o.id, s.shards)',
         'postrider.shard_for(s, o.key, o.id, o.priority)'),
        ('operation_log', 'generate_series(1, h.shards) g',
         'generate_series(1, h.shards * h.classes) g'),
        ('operation_log', 'postrider.shard_of(m.key, m.id, h.shards)',
         'postrider.shard_for(h, m.key, m.id, m.priority)'),
        ('cancel_in_shards', 'generate_series(1, s.shards) g',
         'generate_series(1, s.shards * s.classes) g'),
        ('cancel_in_shards', 'postrider.shard_of(m.key, m.id, s.shards)',
         'postrider.shard_for(s, m.key, m.id, m.priority)'),
        ('cancel_in_shard', 'postrider.shard_of(m.key, m.id, s.shards)',
         'postrider.shard_for(s, m.key, m.id, m.priority)'),
        ('cancel_in_shard', 'h.shard = part FOR UPDATE',
         'h.shard = postrider.key_shard(part, s.shards) FOR UPDATE'),
        ('cancel_in_shard', 'w.shard = part)',
         'w.shard = postrider.key_shard(part, s.shards))'),
        ('supersede', 'postrider.shard_of(o.key, o.id, s.shards)',
         'postrider.shard_for(s, o.key, o.id, o.priority)'),
        ('supersede', 'h.shard = part FOR UPDATE',
         'h.shard = postrider.key_shard(part, s.shards) FOR UPDATE'),
        ('unique_standing', 'postrider.shard_of(o.key, k.id, s.shards)',
         'postrider.shard_for(s, o.key, k.id, o.priority)'),
        ('unique_standing', 'postrider.shard_in_use(k.subscription, part)',
         'postrider.shard_in_use(k.subscription, postrider.key_shard(part, s.shards))'),
        ('hold_unique', 'postrider.shard_of(hold_unique.key, hold_unique.id, t.shards)',
         E'postrider.shard_for(t, hold_unique.key, hold_unique.id, CASE WHEN t.classes > 1 THEN (SELECT o.priority FROM postrider.outbox o\n                    WHERE o.segment = hold_unique.segment AND o.id = hold_unique.id AND o.created_at = hold_unique.created_at) END)'),
        ('taken_by_me', 'generate_series(1, t.shards) g',
         'generate_series(1, t.shards * t.classes) g'),
        ('rebase', 'p.shard = 0',
         'p.shard < 1'),
        ('rebase_shards', E'    n           smallint;\n',
         E'    sharding    postrider.shard_settings;\n'),
        ('rebase_shards', 'SELECT t.shards INTO n FROM',
         'SELECT * INTO sharding FROM'),
        ('rebase_shards', '1..n LOOP',
         '1..sharding.shards * sharding.classes LOOP'),
        ('rebase_shards', 'postrider.shard_of(m.key, m.id, n) = shard',
         'postrider.shard_for(sharding, m.key, m.id, m.priority) = shard')
        ) AS r (name, was, is_now) GROUP BY r.name
    LOOP
        def := pg_get_functiondef(format('postrider.%I', e.name)::regproc);
        FOR i IN 1..cardinality(e.was) LOOP
            IF strpos(def, e.was[i]) = 0 THEN
                RAISE EXCEPTION 'postrider.% has not what is to be replaced: %', e.name, e.was[i];
            END IF;
            def := replace(def, e.was[i], e.is_now[i]);
        END LOOP;
        EXECUTE def;
    END LOOP;
    def := pg_get_viewdef('postrider.deliveries'::regclass);
    IF def !~ 'shard_of\(o\.key, o\.id, [^=]*shards\)?(::integer)?\)' THEN
        RAISE EXCEPTION 'the view postrider.deliveries has not what is to be replaced';
    END IF;
    EXECUTE 'CREATE OR REPLACE VIEW postrider.deliveries AS ' ||
        regexp_replace(def, 'shard_of\(o\.key, o\.id, \(?t\.shards\)?(::integer)?\)', 'shard_for(t.*, o.key, o.id, o.priority)');
END $$;
