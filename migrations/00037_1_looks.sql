SET LOCAL search_path = pg_catalog, pg_temp;

-- A look at where all stand, and at what an operation is about, takes no longer than people notice, with a thousand subscriptions, a million messages
-- and a hundred thousand exceptions, too.
DO $$
DECLARE
    change record;
    text   text;
BEGIN
    FOR change IN VALUES
        -- What a subscription has parked was read to its end, however much that is, to know which of a few messages are parked.
        ('postrider.backlog_up_to(postrider.subscriptions, postrider.cursors, bigint)',
         'AND NOT EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = s.name AND p.id = w.id AND p.created_at = w.created_at) AS wanted',
         'AND (NOT parks OR (SELECT true FROM postrider.parked p WHERE p.subscription = s.name AND p.id = w.id AND p.created_at = w.created_at LIMIT 1) IS NULL) AS wanted'),
        ('postrider.backlog_up_to(postrider.subscriptions, postrider.cursors, bigint)',
         '    seen    bigint;' || E'\n',
         '    seen    bigint;' || E'\n' || '    parks   boolean := EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = s.name);' || E'\n'),
        ('postrider.shard_backlogs()',
         'AND NOT EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = s.subscription AND p.id = o.id AND p.created_at = o.created_at) AS wanted',
         'AND (NOT parks OR (SELECT true FROM postrider.parked p WHERE p.subscription = s.subscription AND p.id = o.id AND p.created_at = o.created_at LIMIT 1) IS NULL) AS wanted'),
        ('postrider.shard_backlogs()', '    top     xid8;' || E'\n', '    top     xid8;' || E'\n' || '    parks   boolean;' || E'\n'),
        ('postrider.shard_backlogs()', '        top := running[1];' || E'\n',
         '        top := running[1];' || E'\n' || '        parks := EXISTS (SELECT FROM postrider.parked p WHERE p.subscription = s.subscription);' || E'\n'),
        ('postrider.shard_backlogs()', 'greatest(10000 / greatest((SELECT count(*) FROM postrider.shard_settings), 1), 200)',
         'greatest(4000 / greatest((SELECT count(*) FROM postrider.shard_settings), 1), 100)'),
        ('postrider.backlogs()',
         'NOT EXISTS (SELECT FROM postrider.parked k WHERE k.subscription = p.name AND k.id >= (SELECT min(m.id) FROM message m))',
         '(SELECT true FROM postrider.parked k WHERE k.subscription = p.name AND k.id >= (SELECT min(m.id) FROM message m) ORDER BY k.id LIMIT 1) IS NULL'),
        -- Of a few that are far behind, as of the classes of one, ten thousand of each; of more, so many less.
        ('postrider.backlogs()', 'rows   CONSTANT bigint := 40000;', 'rows   CONSTANT bigint := 10000;'),
        ('postrider.backlogs()', 'least(greatest(rows / count(*) OVER (), 200), each) AS most',
         'CASE WHEN count(*) OVER () <= 4 THEN each ELSE rows / count(*) OVER () END AS most'),
        ('postrider.parked_counts()', 'greatest(20000 / count(*) OVER (), 20)', 'greatest(12000 / count(*) OVER (), 20)'),
        -- Of what a filter means only so much is looked at where somebody waits for it.
        ('postrider.preview_operation(text, text, text, text, text, timestamptz, timestamptz, boolean)',
         'until, everything, NULL)) c;', 'until, everything, NULL), 30000) c;'),
        ('postrider.start_operation(text, text, text, text, text, timestamptz, timestamptz, boolean, text)',
         'FROM postrider.count_operation(o) c;', 'FROM postrider.count_operation(o, 200000) c;')
    LOOP
        text := pg_get_functiondef(change.column1::regprocedure);
        IF position(change.column2 IN text) = 0 THEN
            RAISE EXCEPTION '% has changed', change.column1;
        END IF;
        EXECUTE replace(text, change.column2, change.column3);
    END LOOP;
END $$;
COMMENT ON FUNCTION postrider.parked_counts IS 'How many messages each subscription has parked, by state, as far as they are counted in a moment: twelve thousand in all, but twenty of each at least. more says that some of these numbers are only so many.';

-- What is only counted is not collected: of what was collected, nine tenths were looked at again.
DROP FUNCTION postrider.count_operation(postrider.operations);
CREATE FUNCTION postrider.count_operation(o postrider.operations, looks integer, OUT messages bigint, OUT more boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    most  CONSTANT integer := 10000;
    step  CONSTANT integer := 10001;
    until CONSTANT timestamptz := clock_timestamp() + interval '5 seconds';
    n     record;
BEGIN
    messages := 0;
    LOOP
        WITH seen AS MATERIALIZED (
            SELECT * FROM postrider.operation_log(o, least(step, looks - o.looked::integer)) WHERE o.in_log
            UNION ALL
            SELECT * FROM postrider.operation_parked(o, least(step, looks - o.looked::integer)) WHERE NOT o.in_log
        ), last AS (
            SELECT s.id, s.segment, s.created_at FROM seen s WHERE s.id = (SELECT max(id) FROM seen) ORDER BY s.segment DESC, s.created_at DESC LIMIT 1
        )
        SELECT count(*) AS looked, count(*) FILTER (WHERE s.likely) AS likely,
               (SELECT l.id FROM last l) AS id, (SELECT l.segment FROM last l) AS segment, (SELECT l.created_at FROM last l) AS created_at
        INTO n FROM seen s;
        messages := messages + n.likely;
        more := n.looked >= least(step, looks - o.looked); -- else there is nothing behind these
        o.looked := o.looked + n.looked;
        IF n.looked > 0 THEN
            o.after_id := n.id; o.after_segment := n.segment; o.after_created := n.created_at;
        END IF;
        IF NOT more AND o.in_log THEN
            o.in_log := false; o.after_id := -9223372036854775808; o.after_segment := -1; o.after_created := '-infinity';
            more := true;
        END IF;
        EXIT WHEN NOT more OR messages > most OR o.looked >= looks OR clock_timestamp() > until;
    END LOOP;
    more := more OR messages > most;
    messages := least(messages, most);
END $$;
COMMENT ON FUNCTION postrider.count_operation IS 'How many messages an operation is about, of so many that are looked at; ten thousand at most. more says that there may be more.';
REVOKE ALL ON FUNCTION postrider.count_operation(postrider.operations, integer) FROM PUBLIC;
