SET LOCAL search_path = pg_catalog, pg_temp;

-- Workers that come for messages have no callbacks: whoever handed a message out says what came of it, and the next owner of the
-- subscription has to know who has it.
ALTER TABLE postrider.parked ADD COLUMN worker text;
COMMENT ON COLUMN postrider.parked.worker IS 'Who works on a leased message that he came for; null if a callback is to come.';
