package main

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
)

func TestCallbackSettings(t *testing.T) {
	t.Parallel()
	const (
		url     = "POSTRIDER_CALLBACK_URL=https://hooks.example/p"
		addr    = "POSTRIDER_CALLBACK_ADDR=0.0.0.0:8481"
		secrets = "POSTRIDER_CALLBACK_SECRETS=file:/run/a, env:NEXT"
	)
	for _, c := range []struct {
		env  []string
		want string
	}{
		{[]string{url}, "POSTRIDER_CALLBACK_URL=https://hooks.example/p: needs POSTRIDER_CALLBACK_SECRETS"},
		{[]string{addr}, "POSTRIDER_CALLBACK_ADDR=0.0.0.0:8481: needs POSTRIDER_CALLBACK_SECRETS"},
		{[]string{secrets, "POSTRIDER_CALLBACK_URL=hooks.example"}, "POSTRIDER_CALLBACK_URL=hooks.example: it has the scheme"},
		{[]string{secrets, "POSTRIDER_CALLBACK_URL=https://u:geheim@hooks.example"}, "POSTRIDER_CALLBACK_URL=https://xxxxx@hooks.example: it has user info"},
		{[]string{secrets, "POSTRIDER_CALLBACK_URL=https://hooks.example?token=geheim"}, "POSTRIDER_CALLBACK_URL=https://hooks.example?token=xxxxx: it has a query"},
		{[]string{url, "POSTRIDER_CALLBACK_SECRETS=file:/run/a,geheim"}, "POSTRIDER_CALLBACK_SECRETS: secret 2 holds something else than a reference"},
		{[]string{secrets, addr, "POSTRIDER_HTTP_ADDR=0.0.0.0:8481"}, "POSTRIDER_CALLBACK_ADDR=0.0.0.0:8481: must be another address than POSTRIDER_HTTP_ADDR"},
	} {
		runCommand(t, c.env, "", "settings").fails("postrider: " + c.want).lacks("geheim")
	}
	// What a reference leads to is needed where it is used, not by every command.
	runCommand(t, []string{url, addr, secrets}, "", "settings").ok("POSTRIDER_CALLBACK_SECRETS file:/run/a,env:NEXT", "POSTRIDER_CALLBACK_URL https://hooks.example/p")
	runCommand(t, []string{url, secrets}, "", "settings").ok()
	runCommand(t, []string{addr, secrets}, "", "settings").ok()
	runCommand(t, []string{"POSTRIDER_CALLBACK_ADDR=off"}, "", "settings").ok()
	r := runCommand(t, []string{secrets, "POSTRIDER_CALLBACK_ADDR=off"}, "", "settings")
	if want := "POSTRIDER_CALLBACK_SECRETS has no effect without POSTRIDER_CALLBACK_URL or POSTRIDER_CALLBACK_ADDR"; r.status != 0 || !strings.Contains(r.err, want) {
		t.Errorf("status %d, no warning %q in\n%s", r.status, want, r.err)
	}
}

func TestRunRefusesCallbackSettings(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	taken, _ := webhookReceiver(t, accepts)
	taken = strings.TrimSuffix(strings.TrimPrefix(taken, "http://"), "/hook")
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_HTTP_ADDR=off", "SHORT=geheim"}
	for _, c := range []struct {
		env  []string
		want string
	}{
		{[]string{"POSTRIDER_CALLBACK_URL=http://h", "POSTRIDER_CALLBACK_SECRETS=env:SHORT"}, "POSTRIDER_CALLBACK_SECRETS: secret 1: env:SHORT: it holds a secret of 6 bytes: at least 32 are needed"},
		{[]string{"POSTRIDER_CALLBACK_ADDR=127.0.0.1:0", "POSTRIDER_CALLBACK_SECRETS=env:NOWHERE"}, "POSTRIDER_CALLBACK_SECRETS: secret 1: the variable NOWHERE is not set"},
		{[]string{"POSTRIDER_CALLBACK_ADDR=" + taken, "POSTRIDER_CALLBACK_SECRETS=" + newReferenceFile(t, callbackKey)}, "POSTRIDER_CALLBACK_ADDR=" + taken + ": listen"},
	} {
		runCommand(t, append(env, c.env...), "", "run").fails("postrider: " + c.want).lacks("geheim")
	}
}

// A worker settles asynchronous deliveries, and may do nothing else.
func TestWorkersSettleInSQL(t *testing.T) {
	t.Parallel()
	db := subscribed(t)
	worker := db.Role(t, "Worker", "")
	db.Exec(t, runCommand(t, nil, "", "grants", "--worker", worker).ok().lacks("REPLICATION").out)
	id := enqueued(t, db)
	recordAccepted(t, db, id, 17, "1 minute")
	conn := connectAs(t, db.RoleURL(worker))
	var done bool
	for sql, want := range map[string]bool{
		"SELECT postrider.complete('billing', $1, 16)":                                false,
		"SELECT postrider.fail('billing', $1, 16, 'why', '5 minutes')":                false,
		"SELECT postrider.heartbeat('billing', $1, 17, '5 minutes') IS NOT NULL":      true,
		"SELECT postrider.heartbeat('billing', $1, 16) IS NOT NULL":                   false,
		"SELECT postrider.heartbeat('billing', $1, 17) IS NOT NULL":                   true,
		"SELECT postrider.complete('billing', $1 + 1, 17)":                            false,
		"SELECT postrider.fail('billing', $1, 16, dead => true, reason => 'no such')": false,
	} {
		if err := conn.QueryRow(t.Context(), sql, id).Scan(&done); err != nil || done != want {
			t.Errorf("%s: %v, %v, want %v", sql, done, err, want)
		}
	}
	if err := conn.QueryRow(t.Context(), "SELECT postrider.complete('billing', $1, 17)", id).Scan(&done); err != nil || !done {
		t.Errorf("complete: %v, %v", done, err)
	}
	for _, sql := range []string{"SELECT FROM postrider.parked", "SELECT FROM postrider.outbox", "SELECT postrider.attempt_state('billing', 1, 1)",
		"SELECT postrider.redrive('billing')", "SELECT postrider.enqueue('a', '{}')"} {
		if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func connectAs(t *testing.T, url string) *dbconn.Conn {
	t.Helper()
	conn, err := admin.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close(conn) })
	return conn
}
