package main

import (
	"net/http"
	"strings"
	"testing"
)

// One relay of a rolling deploy lacks a secret: the other one delivers, and status, doctor and /readyz say what is the matter.
func TestRelayThatLacksASecret(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	url, received := webhookReceiver(t, func(r *http.Request) int {
		if r.Header.Get("Authorization") != "Bearer geheim" {
			return http.StatusUnauthorized
		}
		return http.StatusOK
	})
	db.Exec(t, `SELECT postrider.subscribe('billing', '{>}', $1, '{"options": {"bearer": "env:POSTRIDER_SECRET_BILLING"}}')`, url)
	database := "POSTRIDER_DATABASE_URL=" + db.URL()
	poor := start(t, database, "POSTRIDER_NAME=poor")
	poor.waitFor(`level=WARN msg="this relay cannot deliver a subscription and leaves it to others" subscription=billing because=".*POSTRIDER_SECRET_BILLING.*`)
	ready := func(p *process) (int, string) {
		status, body := p.get("/readyz")
		return status, body
	}
	eventually(t, "the relay is not ready while nobody delivers", func() bool {
		status, body := ready(poor)
		return status == http.StatusServiceUnavailable && strings.Contains(body, `subscription "billing" is delivered by nobody: this relay cannot`)
	})
	on(t, db.URL(), "status").ok("billing active", "nobody delivers it: relay poor cannot", "RELAY CANNOT DELIVER SINCE BECAUSE", "poor billing")
	on(t, db.URL(), "status", "--json").ok(`"unable": { "billing": { "reason": `)
	if r := on(t, db.URL(), "doctor"); !strings.Contains(r.out, `relay "poor" cannot deliver "billing" and leaves it to others`) {
		t.Errorf("doctor says\n%s", r.out)
	}

	rich := start(t, database, "POSTRIDER_NAME=rich", "POSTRIDER_SECRET_BILLING=geheim")
	rich.waitFor(`msg=delivering subscription=billing`)
	on(t, db.URL(), "enqueue", "orders.created", `{"n":1}`).ok()
	if got := receive(t, received); got != `{"n": 1}` {
		t.Errorf("received %q", got)
	}
	eventually(t, "both are ready", func() bool {
		one, _ := ready(poor)
		other, _ := ready(rich)
		return one == http.StatusOK && other == http.StatusOK
	})
	on(t, db.URL(), "status").ok("billing active rich", "poor billing")
}
