package main

import (
	"encoding/json"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/pgtest"
)

func relaysOf(t *testing.T, db *pgtest.DB) []admin.RelayStatus {
	t.Helper()
	var report admin.StatusReport
	if err := json.Unmarshal([]byte(on(t, db.URL(), "status", "--json").ok().out), &report); err != nil {
		t.Fatal(err)
	}
	return report.Relays
}

// A relay that is alone and idle writes nothing, and is seen all the same. One that was killed is not, and one that hangs is told
// from both. Two of one name are told apart.
func TestRelaysAreSeen(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	role := db.Role(t, "relay", "")
	db.Exec(t, runCommand(t, nil, "", "grants", "--relay", role).ok().out)
	env := []string{"POSTRIDER_DATABASE_URL=" + db.RoleURL(role), "POSTRIDER_FOLLOW=timer", "POSTRIDER_NAME=twin", "POSTRIDER_LEASE=10m"}
	a := start(t, env...)
	short := a.waitFor(`incarnation=([0-9a-f]{8})`)[1]
	eventually(t, "it is registered", func() bool { return len(relaysOf(t, db)) == 1 })
	// Registered long ago; nothing has been written since.
	db.Exec(t, "UPDATE postrider.relays SET seen_at = now() - interval '3 hours', started_at = now() - interval '3 hours'")
	on(t, db.URL(), "status").ok("RELAY VERSION STARTED SUBSCRIPTIONS LAST SEEN", "3h ago 0 now").lacks(short)
	on(t, db.RoleURL(role), "status").ok("3h ago 0 now")
	doctorOn(t, db.URL()).ok("ok relays 1 relay registered, all seen a moment ago")
	if r := relaysOf(t, db)[0]; !r.Connected || time.Since(r.LastSeen) > time.Minute {
		t.Errorf("the relay in JSON: %+v", r)
	}
	// What others' sessions do may be hidden; that they are there is not.
	stranger := db.Role(t, "stranger", "")
	db.Exec(t, "GRANT USAGE ON SCHEMA postrider TO "+stranger+"; GRANT SELECT ON ALL TABLES IN SCHEMA postrider TO "+stranger+
		"; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA postrider TO "+stranger)
	on(t, db.RoleURL(stranger), "status").ok("3h ago 0 now")

	b := start(t, env...)
	second := b.waitFor(`incarnation=([0-9a-f]{8})`)[1]
	eventually(t, "both are registered", func() bool { return len(relaysOf(t, db)) == 2 })
	on(t, db.URL(), "status").ok("twin ("+short+") ", "twin ("+second+") ")
	b.stopWell()

	db.Exec(t, "UPDATE postrider.relays SET seen_at = now() - interval '3 hours'")
	a.signal(syscall.SIGKILL)
	a.ends()
	eventually(t, "its sessions are gone", func() bool { return !relaysOf(t, db)[0].Connected })
	on(t, db.URL(), "status").ok("3h ago 0 3h ago")
	doctorOn(t, db.URL()).ok("warn relays relay twin has no session here, and has not been seen for 3h: it hangs or is gone, without a clean stop. It owns 0 subscriptions",
		"→ postrider run", "DELETE FROM postrider.relays WHERE incarnation = '"+short)
}

// Sessions whose names the connection string chooses do not show whose they are: such a relay says so itself, from time to time.
func TestRelayWithSessionsOfAnotherName(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	p := start(t, "POSTRIDER_DATABASE_URL="+db.URL()+"&application_name=shop", "POSTRIDER_FOLLOW=timer")
	p.waitFor("incarnation=")
	eventually(t, "it is registered", func() bool { return len(relaysOf(t, db)) == 1 })
	db.Exec(t, "UPDATE postrider.relays SET seen_at = now() - interval '3 hours'")
	eventually(t, "the relay is seen", func() bool { r := relaysOf(t, db)[0]; return !r.Connected && time.Since(r.LastSeen) < time.Minute })
}

// TestConnectionsOnThePage: docs/operations.md says how many connections a relay that streams has.
func TestConnectionsOnThePage(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	p := start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_SINK=stdout:", "POSTRIDER_TOPICS=>")
	p.waitFor("following the stream")
	var clients, streams int
	err := db.Conn(t).QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE backend_type = 'client backend'), count(*) FILTER (WHERE backend_type = 'walsender')
		FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'postrider%'`).Scan(&clients, &streams)
	if err != nil {
		t.Fatal(err)
	}
	if clients < 2 || clients > 9 || streams != 1 {
		t.Errorf("the relay has %d connections and %d streams; the page says nine and one", clients, streams)
	}
	p.stopWell()
}
