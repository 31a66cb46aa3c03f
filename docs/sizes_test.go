package docs

import (
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

// number is what a query of one number answers.
func number(t *testing.T, db *pgtest.DB, sql string) (n int) {
	t.Helper()
	if err := db.Conn(t).QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// operations.md says what a message takes beside its payload: about 160 bytes on disk and 300 of WAL.
func TestSizesOnThePage(t *testing.T) {
	db := pgtest.Empty(t)
	if _, err := migrations.Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	const messages = 5000
	db.Exec(t, "CREATE TABLE before AS SELECT pg_current_wal_insert_lsn() AS lsn")
	db.Exec(t, `DO $$ BEGIN FOR i IN 1..5000 LOOP
		INSERT INTO postrider.outbox (topic, key, payload) VALUES ('orders.created', 'customer-7', jsonb_build_object('pad', repeat('x', 190)));
		COMMIT;
	END LOOP; END $$`)
	wal := number(t, db, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), lsn)::bigint FROM before") / messages
	payload := number(t, db, "SELECT avg(pg_column_size(payload))::int FROM postrider.outbox")
	disk := number(t, db, "SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'postrider.outbox'::regclass") / messages
	if more := disk - payload; more < 100 || more > 240 {
		t.Errorf("a message takes %d bytes on disk beside its payload; operations.md says about 160", more)
	}
	if more := wal - payload; more < 200 || more > 450 {
		t.Errorf("a message takes %d bytes of WAL beside its payload; operations.md says about 300", more)
	}
	t.Logf("a payload of %d bytes takes %d on disk and %d of WAL", payload, disk, wal)
}
