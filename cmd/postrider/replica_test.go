package main

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// The doctor says whether the replica can be read, and whether it is one of this database.
func TestDoctorOnReplicas(t *testing.T) {
	t.Parallel()
	primary := pgtest.Servers(t, pgtest.Options{})
	db := primary.NewDB(t)
	on(t, db.URL(), "migrate").ok()
	standby := pgtest.Standbys(t, primary, pgtest.Options{})
	with := func(url string, command string) result {
		return runCommand(t, []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_REPLICA_URL=" + url}, "", command)
	}
	doctor := func(url string) result { return with(url, "doctor") }
	eventually(t, "the standby has the schema", func() bool {
		conn, err := pgx.Connect(t.Context(), standby.URL(db.Name))
		if err != nil {
			return false
		}
		defer conn.Close(t.Context())
		var n int
		return conn.QueryRow(t.Context(), "SELECT count(*) FROM postrider.source").Scan(&n) == nil
	})
	doctor(standby.URL(db.Name)).ok("ok replica 127.0.0.1 can be read, and is")
	doctor(primary.URL(db.Name)).ok("warn replica it cannot be read: failed to connect", "the server is a primary: a replica to read from must be a hot standby", "unset it")
	other := newDB(t)
	doctor(pgtest.Standbys(t, other.Server, pgtest.Options{}).URL(other.Name)).ok("warn replica it is one of another database")
	doctor("postgres://127.0.0.1:1/x").ok("warn replica it cannot be read")
	with("postgres://host:port/db", "run").fails("POSTRIDER_REPLICA_URL", "invalid port")
}
