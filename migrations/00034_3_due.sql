SET LOCAL search_path = pg_catalog, pg_temp;

-- Thousands are due at the same moment, that of a whole minute, and are read page by page, from both ends: each page would sort all of them.
DROP INDEX postrider.schedules_due;
CREATE INDEX schedules_due ON postrider.schedules (due, name) WHERE due IS NOT NULL;
