SET LOCAL search_path = pg_catalog, pg_temp;

COMMENT ON SCHEMA postrider IS 'The outbox of Postrider, its subscriptions and their progress.';

-- Nothing in this schema is anybody's business until it is granted: see `postrider grants`.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA postrider FROM PUBLIC;

-- Constraints run as whoever inserts. None of these reveals or changes anything.
GRANT EXECUTE ON FUNCTION postrider.accepts(jsonb, bytea, text), postrider.accepts_text(jsonb, bytea, text),
    postrider.check_content(jsonb, bytea, text), postrider.check_headers(jsonb),
    postrider.refuse_size(text, bigint), postrider.text_length(jsonb), postrider.max_message(), postrider.valid_earlier(jsonb) TO PUBLIC;
