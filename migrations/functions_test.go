package migrations

import (
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// Functions run in sessions that set what they like. Each is parsed when it is created, or sets what its names and its rows depend on.
func TestFunctionsPinTheirSettings(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	const ours = `SELECT count(*) FROM pg_proc WHERE pronamespace = 'postrider'::regnamespace`
	if n := one[int](t, conn, ours); n < 25 {
		t.Fatalf("only %d functions: the query below would find nothing", n)
	}
	loose := one[string](t, conn, `SELECT coalesce(string_agg(oid::regprocedure::text, ', '), '') FROM pg_proc
		WHERE pronamespace = 'postrider'::regnamespace AND prosqlbody IS NULL
		-- These run for each INSERT, where a setting costs as much as all the rest. They name in full what they use, and read no table.
		AND proname NOT IN ('accepts', 'accepts_text', 'notify_outbox')
		AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp', 'row_security=off'], false)`)
	if loose != "" {
		t.Errorf("without SET search_path = pg_catalog, pg_temp SET row_security = off: %s", loose)
	}
}
