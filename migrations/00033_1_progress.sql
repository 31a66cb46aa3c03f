SET LOCAL search_path = pg_catalog, pg_temp;

-- How far a worker has come is in the row that its job has anyway, and goes with it.
ALTER TABLE postrider.parked ADD COLUMN progress json;
COMMENT ON COLUMN postrider.parked.progress IS 'Of a leased message: how far its worker has come, as it has said: {"percent": 40, "note": "half way"}. It may be some seconds behind.';

CREATE FUNCTION postrider.progress_of(subscription text, id bigint, created_at timestamptz) RETURNS json
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
    SELECT p.progress FROM postrider.parked p
    WHERE p.subscription = progress_of.subscription AND p.id = progress_of.id AND p.created_at = progress_of.created_at AND p.state = 'leased'
$$;
COMMENT ON FUNCTION postrider.progress_of IS 'How far the worker has come that has a message, for one subscription; null if nobody has it, or he has not said.';

DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW postrider.deliveries AS SELECT d.*, CASE d.status WHEN ''leased'' THEN postrider.progress_of(d.subscription, d.id, d.created_at) END AS progress FROM ('
        || rtrim(pg_get_viewdef('postrider.deliveries'::regclass), ';') || ') d';
END $$;
COMMENT ON COLUMN postrider.deliveries.progress IS 'Of a leased one: how far its worker has come, where he has said so: {"percent": 40, "note": "half way"}.';

-- Whoever may call it may do so after it was made anew.
SELECT set_config('postrider.readers', coalesce((SELECT string_agg(quote_ident(r.rolname), ', ')
    FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE p.oid = 'postrider.deliveries_of(bigint, text)'::regprocedure AND a.grantee <> p.proowner), ''), true);
DROP FUNCTION postrider.deliveries_of(bigint, text);
CREATE FUNCTION postrider.deliveries_of(id bigint, subscription text DEFAULT NULL)
    RETURNS TABLE (of_subscription text, status text, topic text, key text, created_at timestamptz, attempts integer, due timestamptz, reason text, result json, progress json)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off AS $$
    SELECT d.subscription, d.status, d.topic, d.key, d.created_at, d.attempts, d.due, d.reason, d.result, d.progress
    FROM postrider.deliveries d WHERE d.id = deliveries_of.id AND (deliveries_of.subscription IS NULL OR d.subscription = deliveries_of.subscription)
    ORDER BY d.created_at DESC, d.subscription
$$;
COMMENT ON FUNCTION postrider.deliveries_of IS 'Where a message stands for each subscription, or for one, what came of it, and how far its worker has come; ids that came again with the newest first. No row: nobody wants it, or it is not in the log any more.';
DO $$
BEGIN
    IF current_setting('postrider.readers') <> '' THEN
        EXECUTE 'GRANT EXECUTE ON FUNCTION postrider.deliveries_of(bigint, text) TO ' || current_setting('postrider.readers');
    END IF;
END $$;
