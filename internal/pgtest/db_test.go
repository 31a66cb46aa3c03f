package pgtest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"
)

// count runs a query on the shared cluster that yields one number.
func count(t *testing.T, s *Server, sql string, args ...any) string {
	t.Helper()
	return queryOne(t, s.URL("postgres"), "SELECT count(*)::text FROM "+sql, args...)
}

func TestNewCopiesTemplate(t *testing.T) {
	var dbs []*DB
	t.Run("two at once", func(t *testing.T) {
		for range 2 {
			t.Run("parallel", func(t *testing.T) {
				t.Parallel()
				db := New(t)
				if got := queryOne(t, db.URL(), `SELECT n::text FROM of_template`); got != "7" {
					t.Errorf("the template's row is %s", got)
				}
				db.Exec(t, `UPDATE of_template SET n = $1`, 8)
				if _, err := db.Pool(t).Exec(t.Context(), `SELECT 1`); err != nil {
					t.Error(err)
				}
				shared.mu.Lock()
				defer shared.mu.Unlock()
				dbs = append(dbs, db)
			})
		}
	})
	goleak.VerifyNone(t)
	if len(dbs) != 2 || dbs[0].Server != dbs[1].Server || dbs[0].Name == dbs[1].Name {
		t.Fatalf("databases: %+v", dbs)
	}
	if _, err := connect(t, dbs[0].Server.URL(templateName)); err == nil {
		t.Error("the template takes connections, which would block copying it")
	}
	if got := count(t, dbs[0].Server, "pg_database WHERE datname IN ($1, $2)", dbs[0].Name, dbs[1].Name); got != "0" {
		t.Errorf("%s databases outlived their tests", got)
	}
}

func TestEmpty(t *testing.T) {
	if got := queryOne(t, Empty(t).URL(), `SELECT count(*)::text FROM pg_class WHERE relname = 'of_template'`); got != "0" {
		t.Error("an empty database has the template's table")
	}
}

func TestNewDBInOwnCluster(t *testing.T) {
	s := Servers(t, Options{WALLevel: "replica"})
	if got := queryOne(t, s.NewDB(t).URL(), `SELECT current_setting('wal_level')`); got != "replica" {
		t.Errorf("wal_level is %s", got)
	}
	for range 2 { // of the template that the first of them makes
		db := s.New(t)
		db.Exec(t, `UPDATE of_template SET n = n + 1`)
		if got := queryOne(t, db.URL(), `SELECT n || ' ' || current_setting('wal_level') FROM of_template`); got != "8 replica" {
			t.Errorf("a database made of the template has %q", got)
		}
	}
}

func TestDropIsThorough(t *testing.T) {
	var db *DB
	var stream *pgconn.PgConn
	t.Run("untidy", func(t *testing.T) {
		db = New(t)
		stream = streamOnSlot(t, db) // first: making a slot waits for open transactions
		conn := db.Conn(t)
		if _, err := conn.Exec(t.Context(), `BEGIN; INSERT INTO of_template VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		db.Exec(t, `BEGIN; CREATE TABLE prepared (); PREPARE TRANSACTION 'left'`)
	})
	if err := stream.Close(t.Context()); err != nil {
		t.Logf("the stream was cut off, as it should be: %v", err)
	}
	if got := count(t, db.Server, "pg_database WHERE datname = $1", db.Name); got != "0" {
		t.Error("the database outlived its test")
	}
	if got := count(t, db.Server, "pg_replication_slots"); got != "0" {
		t.Errorf("%s slots outlived their test", got)
	}
}

// streamOnSlot leaves a walsender at work that nobody ends.
func streamOnSlot(t *testing.T, db *DB) *pgconn.PgConn {
	t.Helper()
	config, err := pgconn.ParseConfig(db.URL() + "&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `CREATE PUBLICATION p`)
	db.Exec(t, `SELECT pg_create_logical_replication_slot('left', 'pgoutput')`)
	frontend := conn.Frontend()
	frontend.SendQuery(&pgproto3.Query{String: `START_REPLICATION SLOT "left" LOGICAL 0/0 (proto_version '1', publication_names 'p')`})
	if err := frontend.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slot is in use", func() bool {
		return count(t, db.Server, "pg_replication_slots WHERE slot_name = 'left' AND active") == "1"
	})
	return conn
}

func TestRole(t *testing.T) {
	var db *DB
	var role string
	t.Run("untidy", func(t *testing.T) {
		db = New(t)
		role = db.Role(t, "Relay-x", "REPLICATION")
		db.Exec(t, `GRANT CREATE ON SCHEMA public TO `+role)
		db.Exec(t, `GRANT CREATE ON DATABASE postgres TO `+role)
		if got := queryOne(t, db.RoleURL(role), `SELECT current_user || rolreplication || rolsuper FROM pg_roles WHERE rolname = current_user`); got != role+"truefalse" {
			t.Errorf("connected as %s, want %s", got, role)
		}
		conn, err := connect(t, db.RoleURL(role))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `CREATE TABLE owned ()`); err != nil {
			t.Fatal(err)
		}
		if other := db.Role(t, "Relay-x", ""); other == role {
			t.Errorf("two roles are named %s", role)
		}
	})
	if !strings.Contains(role, "relay_x") {
		t.Errorf("the role is named %s", role)
	}
	if got := count(t, db.Server, "pg_roles WHERE rolname LIKE '%relay%'"); got != "0" {
		t.Errorf("%s roles outlived their test", got)
	}
}

func TestTemplateTooLate(t *testing.T) {
	New(t)
	defer func() {
		if recover() == nil {
			t.Error("a template after the first New was accepted")
		}
	}()
	Template(func(string) error { return nil })
}

func TestFailedTemplate(t *testing.T) {
	boom := errors.New("boom")
	calls := 0
	c := cluster{prepare: func(string) error { calls++; return boom }}
	defer func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	}()
	for range 2 {
		if _, _, err := c.get(); !errors.Is(err, boom) {
			t.Fatalf("get: %v", err)
		}
	}
	if calls != 1 {
		t.Errorf("a failed template was tried %d times", calls)
	}
}

func TestUniqueName(t *testing.T) {
	name := uniqueName("TestX/Ä sub " + strings.Repeat("x", 100))
	if !strings.HasPrefix(name, "t_testx___sub_xxx") || len(name) > 63 {
		t.Errorf("name %q has %d bytes", name, len(name))
	}
}

func TestDropGivesUp(t *testing.T) {
	db := New(t)
	ctx, cancel := context.WithCancel(t.Context())
	admin, err := pgx.Connect(ctx, db.Server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := dropDatabase(ctx, admin, db.Name); !errors.Is(err, context.Canceled) {
		t.Errorf("drop with a dead context: %v", err)
	}
}
