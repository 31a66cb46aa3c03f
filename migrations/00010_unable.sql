-- +goose Up

SET LOCAL search_path = pg_catalog, pg_temp;

-- What a relay cannot deliver though others may, for something that it lacks: {"subscription": {"version": of the subscription,
-- "reason": text, "since": time}}. It goes with the relay's row.
ALTER TABLE postrider.relays ADD COLUMN unable jsonb NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE postrider.relays DROP COLUMN unable;
