package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// pair are two relays that deliver one of two subscriptions each, and where workers ask them.
func pair(t *testing.T, db *pgtest.DB, urls bool, more ...string) (bases [2]string, owners map[string]int) {
	t.Helper()
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_CONFIG=" + writeFile(t, `
subscriptions:
  - {name: mail, topics: ['mail.>'], sink: 'pull:'}
  - {name: sms, topics: ['sms.>'], sink: 'pull:'}
`)}
	names := [2]string{"first", "second"}
	for i, name := range names {
		address := freeAddress(t)
		own := append([]string{"POSTRIDER_NAME=" + name, "POSTRIDER_API_ADDR=" + address}, env...)
		own = append(own, more...)
		if urls {
			own = append(own, "POSTRIDER_API_URL=http://"+address)
		}
		p := start(t, own...)
		p.waitFor("relay started")
		bases[i] = "http://" + address
		if !urls && i == 1 {
			p.waitFor("workers that ask another relay cannot be served from here")
		}
	}
	owners = make(map[string]int)
	eventually(t, "each relay has one of the subscriptions", func() bool {
		for i, name := range names {
			at := one[string](t, db, `SELECT coalesce(string_agg(c.subscription, ','), '') FROM postrider.cursors c JOIN postrider.relays r ON r.incarnation = c.owner WHERE r.name = '`+name+`'`)
			if at != "mail" && at != "sms" {
				return false
			}
			owners[at] = i
		}
		return len(owners) == 2
	})
	return bases, owners
}

// A worker may ask any relay: what another one delivers comes from there, and what is said of it reaches it.
func TestWorkersAskAnyRelay(t *testing.T) {
	db := newDB(t)
	bases, owners := pair(t, db, true)
	here, away := "mail", "sms"
	if owners["mail"] == 1 {
		here, away = "sms", "mail"
	}
	w := newJobWorker(t, bases[0], "w")
	both := []any{map[string]any{"subscription": here, "max": 5}, map[string]any{"subscription": away, "max": 5}}
	w.take(0, "from", both, "wait", "0s") // whoever it is handed over from, it is there now
	db.Exec(t, "SELECT postrider.enqueue($1, '{}')", away+".x")
	far := w.take(1, "from", both)[0]
	db.Exec(t, "SELECT postrider.enqueue($1, '{}')", here+".x")
	near := w.take(1, "from", both)[0]
	if far.Subscription != away || near.Subscription != here {
		t.Errorf("jobs came from %s and %s", far.Subscription, near.Subscription)
	}
	a := w.call("beat", map[string]any{"holding": []any{far.held(), near.held()}, "progress": []any{far.held()}})
	if a.status != 200 || len(a.Lost) > 0 {
		t.Errorf("a beat is answered %+v", a)
	}
	eventually(t, "progress has reached the owner", func() bool {
		return one[int64](t, db, "SELECT count(*) FROM postrider.parked WHERE state = 'leased'") == 1
	})
	w.settle("ok,unknown,ok", far.is("done"), far.is("done", "token", "guessed"), near.is("done"))
	// Asked by itself, the other one says the same.
	w.base = bases[1]
	w.settle("ok,ok", near.is("done"), far.is("done"))
	eventually(t, "all is delivered", func() bool {
		return one[bool](t, db, "SELECT count(*) = 2 AND bool_and(status = 'delivered') FROM postrider.deliveries")
	})

	body := []byte(`{"worker":"w","incarnation":"1","from":[{"subscription":"` + away + `","max":1}]}`)
	for _, header := range []string{"x", "a b c", one[string](t, db, "SELECT incarnation::text FROM postrider.relays WHERE name = 'second'") + " 1 00"} {
		a := askJobs(t, bases[1]+"/api/v1/jobs/take", body, func(r *http.Request) { r.Header.Set("Postrider-Relay", header) })
		if a.status != 401 || a.Code != "relay_unauthorized" {
			t.Errorf("a call that claims to come from a relay by %q is answered %+v", header, a)
		}
	}
	// A key that relays do not share is their trouble, not the worker's.
	db.Exec(t, "UPDATE postrider.relay_keys SET key = '\\x00'")
	third := freeAddress(t)
	p := start(t, "POSTRIDER_NAME=third", "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_API_ADDR="+third, "POSTRIDER_API_URL=http://"+third)
	p.waitFor("relay started")
	w.base = "http://" + third
	eventually(t, "the owner is asked", func() bool {
		a = w.call("take", map[string]any{"from": []any{map[string]any{"subscription": away, "max": 1}}})
		return a.Code == "owner_unreachable"
	})
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("what is wrong between relays is answered %+v", a)
	}
}

// Without a URL, the answer names who has the subscription.
func TestWorkersAreToldWhomToAsk(t *testing.T) {
	db := newDB(t)
	bases, owners := pair(t, db, false)
	away := "sms"
	if owners["sms"] == 0 {
		away = "mail"
	}
	w := newJobWorker(t, bases[0], "w")
	var a jobsAnswer
	eventually(t, "the relay knows", func() bool {
		a = w.call("take", map[string]any{"from": []any{map[string]any{"subscription": away, "max": 1}}})
		return a.status != 200
	})
	if a.status != 421 || a.Code != "not_owner" || !strings.Contains(a.Detail, `relay "second"`) {
		t.Errorf("answered %+v", a)
	}
	on(t, db.URL(), "doctor").has("POSTRIDER_API_URL")

	db.Exec(t, "SELECT postrider.subscribe('hook', '{>}', 'http://127.0.0.1:1')")
	db.Exec(t, "SELECT postrider.subscribe('tables', '{>}', 'sql:')")
	for name, want := range map[string][]string{
		"mial":   {"404", "unknown_subscription", `did you mean "mail"?`},
		"hook":   {"409", "not_pull", "begins with http:", "whose sink is pull:"},
		"tables": {"409", "not_pull", "postrider.take"},
	} {
		a := w.call("take", map[string]any{"from": []any{map[string]any{"subscription": name, "max": 1}}})
		text := http.StatusText(a.status) + " " + a.Code + " " + a.Detail
		if a.status != map[string]int{"404": 404, "409": 409}[want[0]] {
			t.Errorf("%s: %d %s", name, a.status, text)
		}
		for _, word := range want[1:] {
			if !strings.Contains(text, word) {
				t.Errorf("%s: no %q in %s", name, word, text)
			}
		}
	}
}
