package migrations

import (
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// count is how many migrations there are: their numbers have gaps.
func count(t *testing.T) int {
	t.Helper()
	list, err := read()
	if err != nil || len(list) == 0 {
		t.Fatal("no migrations", err)
	}
	return len(list)
}

// The constant names the newest file.
func TestVersionIsTheNewest(t *testing.T) {
	list, err := read()
	if err != nil || list[len(list)-1].version != Version {
		t.Errorf("the newest migration is %d, Version %d (%v)", list[len(list)-1].version, Version, err)
	}
}

func TestUpTwice(t *testing.T) {
	db := pgtest.Empty(t)
	for _, want := range []int{count(t), 0} {
		if n, err := Up(t.Context(), db.URL()); err != nil || n != want {
			t.Fatalf("Up = %d, %v, want %d migrations", n, err, want)
		}
	}
	if v, err := Current(t.Context(), db.Conn(t)); err != nil || v != Version {
		t.Fatalf("Current = %d, %v, want %d", v, err, Version)
	}
}

func TestUpConcurrently(t *testing.T) {
	db := pgtest.Empty(t)
	var (
		wg      sync.WaitGroup
		applied [8]int
	)
	for i := range applied {
		wg.Go(func() {
			n, err := Up(t.Context(), db.URL())
			if err != nil {
				t.Error(err)
			}
			applied[i] = n
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range applied {
		sum += n
	}
	if sum != count(t) {
		t.Errorf("%d migrations were applied by all together (%v), want %d", sum, applied, count(t))
	}
}

func TestCurrentWithoutSchema(t *testing.T) {
	if v, err := Current(t.Context(), pgtest.Empty(t).Conn(t)); err != nil || v != 0 {
		t.Errorf("Current = %d, %v, want 0", v, err)
	}
}

func TestUpAsOrdinaryRole(t *testing.T) {
	db := pgtest.Empty(t)
	owner := db.Role(t, "owner", "")
	if _, err := Up(t.Context(), db.RoleURL(owner)); err == nil || !strings.Contains(err.Error(), "permission denied for database") {
		t.Errorf("Up by a role without CREATE: %v", err)
	}
	db.Exec(t, `GRANT CREATE ON DATABASE `+pgx.Identifier{db.Name}.Sanitize()+` TO `+owner)
	if n, err := Up(t.Context(), db.RoleURL(owner)); err != nil || n != count(t) {
		t.Fatalf("Up = %d, %v", n, err)
	}
	conn := connect(t, db.RoleURL(owner))
	subscribe(t, conn, "all", "now", ">")
	id := enqueue(t, conn, "orders.created")
	if got := statuses(t, conn, "all"); got[id] != "pending" {
		t.Errorf("got %v, want message %d pending", got, id)
	}
	// A relay's role has nothing to create and may still call Up.
	relay := db.Role(t, "relay", "")
	exec(t, db.Conn(t), RelayGrants(relay))
	if n, err := Up(t.Context(), db.RoleURL(relay)); err != nil || n != 0 {
		t.Errorf("Up by a relay's role = %d, %v, want 0", n, err)
	}
}

// A migrating role's search_path does not decide what the functions mean.
func TestUpWithHostileSearchPath(t *testing.T) {
	db := pgtest.Empty(t)
	db.Exec(t, `CREATE SCHEMA evil;
		CREATE FUNCTION evil.div(double precision, integer) RETURNS double precision LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'evil was called'; END $$;
		CREATE OPERATOR evil./ (LEFTARG = double precision, RIGHTARG = integer, FUNCTION = evil.div)`)
	conn := db.Conn(t)
	exec(t, conn, `ALTER DATABASE `+pgx.Identifier{db.Name}.Sanitize()+` SET search_path = evil, public`)
	if _, err := Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	later := db.Conn(t)
	enqueue(t, later, "orders.created")
	exec(t, later, `SELECT postrider.set_segment_length('1 hour')`)
	enqueue(t, later, "orders.created")
}

// upNext applies all migrations and then one more, as the next build will.
func upNext(t *testing.T, db *pgtest.DB, sql string) error {
	t.Helper()
	list, err := read()
	if err != nil {
		t.Fatal(err)
	}
	_, err = up(t.Context(), db.URL(), append(list, source{Version + 1, []file{{"next", sql}}}))
	return err
}

// What a build that was never released has made is not taken for ours, nor for something to go on from.
func TestUpAfterAnUnreleasedBuild(t *testing.T) {
	for _, versions := range []string{"(1), (2), (3), (4), (20)", "(1)"} {
		db := pgtest.New(t)
		db.Exec(t, `DELETE FROM postrider.schema_migrations WHERE version_id > 0; INSERT INTO postrider.schema_migrations (version_id, is_applied)
			SELECT v, true FROM (VALUES `+versions+`) n (v)`)
		_, err := Up(t.Context(), db.URL())
		if err == nil || !strings.Contains(err.Error(), "a build that was never released (1") || !strings.Contains(err.Error(), "postrider uninstall --yes --force") {
			t.Errorf("Up where %s were applied: %v", versions, err)
		}
		db.Exec(t, `DROP SCHEMA postrider CASCADE`)
		if n, err := Up(t.Context(), db.URL()); err != nil || n != count(t) {
			t.Errorf("Up after that = %d, %v", n, err)
		}
	}
}
