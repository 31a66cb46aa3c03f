package migrations

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

const publicationTables = `SELECT coalesce(string_agg(schemaname || '.' || tablename, ' '), 'none') FROM pg_publication_tables WHERE pubname = 'postrider'`

// works says whether the schema does what it is for.
func works(t *testing.T, db *pgtest.DB) {
	t.Helper()
	conn := db.Conn(t)
	subscribe(t, conn, "works", "earliest", "works")
	id := enqueue(t, conn, "works")
	if got := statuses(t, conn, "works"); got[id] != "pending" {
		t.Errorf("got %v, want message %d pending", got, id)
	}
	exec(t, conn, `SELECT postrider.unsubscribe('works')`)
}

// What people do to get rid of a schema, or tests to a database: migrating goes on from there, or says exactly what to do, and then
// that helps.
func TestUpAfterWhatPeopleDo(t *testing.T) {
	for _, c := range []struct {
		name, before string
		want         []string // what the error says; none: it works at once
		mend         string   // empty: the statement that the error gives
	}{
		{"dropped", `DROP SCHEMA postrider CASCADE`, nil, ""},
		{"dropped, publication and all", `DROP SCHEMA postrider CASCADE; DROP PUBLICATION postrider`, nil, ""},
		{"an empty schema", `DROP SCHEMA postrider CASCADE; CREATE SCHEMA postrider`, nil, ""},
		{"the record emptied", `TRUNCATE postrider.schema_migrations`, []string{"does not say which migrations made them", "table postrider.cursors", "uninstall"}, ""},
		{"the record dropped", `DROP TABLE postrider.schema_migrations`, []string{"does not say which migrations made them"}, ""},
		{"half of it", `TRUNCATE postrider.schema_migrations; DROP VIEW postrider.subscription_status, postrider.deliveries; DROP TABLE postrider.parked`,
			[]string{"view postrider.deliveries", "table postrider.parked", "is not there", "DROP SCHEMA postrider CASCADE"}, `DROP SCHEMA postrider CASCADE`},
		{"somebody else's table", `DROP SCHEMA postrider CASCADE; CREATE SCHEMA postrider; CREATE TABLE postrider.outbox (id int)`,
			[]string{"holds 1 objects (table postrider.outbox)", "DROP SCHEMA postrider CASCADE"}, `DROP SCHEMA postrider CASCADE`},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := pgtest.New(t)
			db.Exec(t, c.before)
			_, err := Up(t.Context(), db.URL())
			if c.want == nil && err != nil || c.want != nil && err == nil {
				t.Fatalf("Up: %v, want %q", err, c.want)
			}
			if err != nil {
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("Up says %v, which lacks %q", err, want)
					}
				}
				mend := c.mend
				if mend == "" {
					_, mend, _ = strings.Cut(err.Error(), "run INSERT")
					mend, _, _ = strings.Cut("INSERT"+mend, "; otherwise")
				}
				db.Exec(t, mend)
				if _, err := Up(t.Context(), db.URL()); err != nil {
					t.Fatalf("Up after %s: %v", mend, err)
				}
			}
			works(t, db)
			if got := one[string](t, db.Conn(t), publicationTables); got != "postrider.outbox" {
				t.Errorf("the publication is for %s", got)
			}
		})
	}
}

// The row that the migration library begins with is its affair alone.
func TestUpWithoutTheFirstRow(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `DELETE FROM postrider.schema_migrations WHERE version_id = 0`)
	if err := upNext(t, db, `SELECT 1`); err != nil {
		t.Fatal(err)
	}
	works(t, db)
}

// A publication of our name that is somebody else's is never touched: not by migrating, not by a removal.
func TestForeignPublication(t *testing.T) {
	version := pgVersion(t)
	for _, create := range []string{
		`CREATE TABLE theirs (n int); CREATE PUBLICATION postrider FOR TABLE theirs WITH (publish = 'insert', publish_via_partition_root = true)`,
		`CREATE PUBLICATION postrider FOR ALL TABLES WITH (publish = 'insert', publish_via_partition_root = true)`,
		`CREATE PUBLICATION postrider`,
		`CREATE PUBLICATION postrider FOR TABLES IN SCHEMA public WITH (publish = 'insert', publish_via_partition_root = true)`,
	} {
		if strings.Contains(create, "IN SCHEMA") && version < 15 {
			continue // not to be had there
		}
		t.Run(create, func(t *testing.T) {
			db := pgtest.Empty(t)
			db.Exec(t, create)
			const look = `SELECT concat_ws(' ', oid, puballtables, pubinsert, pubupdate, pubviaroot,
				(SELECT count(*) FROM pg_publication_rel), (SELECT count(*) FROM pg_depend WHERE refobjid = p.oid)) FROM pg_publication p`
			was := one[string](t, db.Conn(t), look)
			same := func(after string) {
				t.Helper()
				if is := one[string](t, db.Conn(t), look); is != was {
					t.Errorf("after %s the publication is %s, was %s", after, is, was)
				}
			}
			if n, err := Up(t.Context(), db.URL()); err != nil || n != count(t) {
				t.Fatalf("Up = %d, %v", n, err)
			}
			works(t, db)
			same("migrating")
			plan, err := PlanRemoval(t.Context(), pinned(t, db.URL()))
			if err != nil || len(plan.Kept) != 1 || !strings.Contains(plan.Kept[0], "the publication postrider") {
				t.Errorf("plan %+v, %v, want the publication kept", plan, err)
			}
			if err := plan.Remove(t.Context(), pinned(t, db.URL())); err != nil {
				t.Fatal(err)
			}
			same("a removal")
			if n := one[int](t, db.Conn(t), `SELECT count(*) FROM pg_namespace WHERE nspname = 'postrider'`); n != 0 {
				t.Error("the schema is still there")
			}
		})
	}
}

// The objects of another role are named, with what mends it.
func TestUpNamesOtherOwners(t *testing.T) {
	db := pgtest.Empty(t)
	owner, other := db.Role(t, "owner", ""), db.Role(t, "other", "")
	db.Exec(t, fmt.Sprintf(`GRANT CREATE ON DATABASE %s TO %q, %q`, pgx.Identifier{db.Name}.Sanitize(), owner, other))
	if _, err := Up(t.Context(), db.RoleURL(owner)); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `DELETE FROM postrider.schema_migrations WHERE version_id = $1`, Version)
	_, err := Up(t.Context(), db.RoleURL(other))
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Up by another role: %v", err)
	}
	db.Exec(t, fmt.Sprintf(`GRANT USAGE ON SCHEMA postrider TO %q; GRANT SELECT ON postrider.schema_migrations TO %[1]q`, other))
	_, err = Up(t.Context(), db.RoleURL(other))
	if err == nil || !strings.Contains(err.Error(), "the schema postrider belongs to role") || !strings.Contains(err.Error(), owner) {
		t.Errorf("Up by another role: %v", err)
	}
	db.Exec(t, fmt.Sprintf(`ALTER TABLE postrider.parked OWNER TO %q`, other))
	_, err = Up(t.Context(), db.RoleURL(owner))
	if err == nil || !strings.Contains(err.Error(), "table postrider.parked (") || !strings.Contains(err.Error(), "OWNER TO") {
		t.Errorf("Up where a table is another's: %v", err)
	}
}

// Roles that had all that was needed have it after a migration, and others get nothing.
func TestUpGrantsWhatIsNew(t *testing.T) {
	db := pgtest.New(t)
	relay, app, worker, some := db.Role(t, "re'lay", ""), db.Role(t, "app", ""), db.Role(t, "worker", ""), db.Role(t, "some", "")
	conn := db.Conn(t)
	exec(t, conn, TimerGrants(relay))
	exec(t, conn, AppGrants(app))
	exec(t, conn, WorkerGrants(worker))
	exec(t, conn, fmt.Sprintf(`GRANT USAGE ON SCHEMA postrider TO %q; GRANT EXECUTE ON FUNCTION postrider.pause(text, text), postrider.subscribe(text, text[], text, jsonb, text) TO %[1]q`, some))
	if err := upNext(t, db, `CREATE FUNCTION postrider.is_new() RETURNS int LANGUAGE sql RETURN 1; REVOKE ALL ON FUNCTION postrider.is_new() FROM PUBLIC`); err != nil {
		t.Fatal(err)
	}
	const may = `SELECT has_function_privilege($1, 'postrider.is_new()', 'EXECUTE')`
	for role, want := range map[string]bool{relay: true, app: false, worker: false, some: false} {
		if got := one[bool](t, conn, may, role); got != want {
			t.Errorf("role %s may call what is new: %t, want %t", role, got, want)
		}
	}
	enqueue(t, connect(t, db.RoleURL(app)), "a")
}

// A function that a migration makes anew is granted to those who had it: to readers, too, who have one alone.
func TestUpGrantsReadersWhatIsMadeAnew(t *testing.T) {
	db := pgtest.New(t)
	reader, nobody := db.Role(t, "reader", ""), db.Role(t, "nobody", "")
	exec(t, db.Conn(t), ReaderGrants(reader))
	if err := upNext(t, db, `DO $$ DECLARE text text := pg_get_functiondef('postrider.deliveries_of(bigint, text)'::regprocedure); BEGIN
	DROP FUNCTION postrider.deliveries_of(bigint, text); EXECUTE text; REVOKE ALL ON FUNCTION postrider.deliveries_of(bigint, text) FROM PUBLIC; END $$`); err != nil {
		t.Fatal(err)
	}
	exec(t, connect(t, db.RoleURL(reader)), `SELECT postrider.deliveries_of(1, 's')`)
	refused(t, connect(t, db.RoleURL(nobody)), "42501", `SELECT postrider.deliveries_of(1, 's')`)
}

func TestRemoval(t *testing.T) {
	db := pgtest.New(t)
	conn := db.Conn(t)
	subscribe(t, conn, "s", "now", "a")
	enqueue(t, conn, "a")
	park(t, conn, "s", enqueue(t, conn, "a"), "dead")
	exec(t, conn, `INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, gen_random_uuid(), 'r1', 'v')`)
	exec(t, conn, `CREATE VIEW public.mine AS SELECT id FROM postrider.outbox;
		CREATE TABLE public.shop (n int, topic postrider.topic);
		CREATE TRIGGER tell AFTER INSERT ON public.shop EXECUTE FUNCTION postrider.notify_outbox();
		CREATE TABLE postrider.notes (n int)`)
	slot := "postrider_" + db.Name
	exec(t, conn, `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, slot[:min(63, len(slot))])
	plan, err := PlanRemoval(t.Context(), pinned(t, db.URL()))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		is    []string
		wants []string
	}{
		{"SQL", plan.SQL(), []string{"SELECT pg_drop_replication_slot('postrider_", "DROP PUBLICATION postrider;", "DROP SCHEMA postrider CASCADE;"}},
		{"lost", plan.Lost, []string{"2 retained messages", `1 messages that subscription "s" has not delivered yet`, `1 messages of subscription "s" in state dead`}},
		{"against", plan.Against, []string{`relay "r1" is registered`, "view public.mine depends on the schema", "trigger tell on table public.shop depends", "column topic of table public.shop depends", "table postrider.notes is not one"}},
	} {
		all := strings.Join(c.is, "\n")
		for _, want := range c.wants {
			if !strings.Contains(all, want) {
				t.Errorf("%s: no %q in\n%s", c.what, want, all)
			}
		}
		if len(c.is) != len(c.wants) {
			t.Errorf("%s: %d lines, want %d:\n%s", c.what, len(c.is), len(c.wants), all)
		}
	}
	reader := begin(t, conn)
	exec(t, reader, `SELECT FROM postrider.outbox`)
	if err := plan.Remove(t.Context(), pinned(t, db.URL())); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", conn.PgConn().PID())) {
		t.Errorf("removed while somebody reads: %v", err)
	}
	commit(t, reader)
	if plan, err = PlanRemoval(t.Context(), pinned(t, db.URL())); err != nil {
		t.Fatal(err)
	}
	if err := plan.Remove(t.Context(), pinned(t, db.URL())); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, conn, `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'postrider') + (SELECT count(*) FROM pg_publication)
		+ (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())`); n != 0 {
		t.Errorf("%d things are left", n)
	}
	if plan, err = PlanRemoval(t.Context(), pinned(t, db.URL())); err != nil || len(plan.SQL()) != 0 {
		t.Errorf("afterwards: %v, %v", plan.SQL(), err)
	}
	if _, err := Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	works(t, db)
}
