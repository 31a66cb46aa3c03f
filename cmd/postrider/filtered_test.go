package main

import "testing"

// What a filter leaves out is settled, and nobody writes that down: who looks at it is told by the filter as it is now.
func TestMessagesThatAreLeftOut(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "subs", "apply", writeFile(t, "subscriptions:\n"+
		"  - {name: large, topics: [a], sink: 'stdout:', filter: 'payload.n > 1 && priority == 2'}\n"+
		"  - {name: all, topics: [a], sink: 'stdout:'}\n")).ok()
	for _, n := range []string{"1", "2"} {
		on(t, db.URL(), "enqueue", "a", `{"n": `+n+`}`).ok()
	}
	const reason = "left out by the subscription's filter, as that is now"
	on(t, db.URL(), "messages", "show", "1").ok("pending").lacks("left out")
	_, c := apiSidecar(t, db)
	settled := func(id string) string {
		return c.do("GET", "/messages/"+id+"?wait=20s", "", 200, nil)
	}
	settled("1")
	settled("2")
	var m struct {
		Deliveries []struct {
			Subscription, Status string
			Reason               *string
		}
	}
	for id, want := range map[string]bool{"1": true, "2": false} {
		c.do("GET", "/messages/"+id, "", 200, &m)
		for _, d := range m.Deliveries {
			if left := d.Reason != nil && *d.Reason == reason; d.Status != "delivered" || left != (want && d.Subscription == "large") {
				t.Errorf("message %s for %s is %s, left out: %t", id, d.Subscription, d.Status, left)
			}
		}
	}
	on(t, db.URL(), "messages", "show", "1", "large").ok("status delivered", "reason "+reason)
	on(t, db.URL(), "messages", "show", "2", "large").ok("status delivered").lacks("left out")
}
