package relay

import (
	"errors"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
)

// brokenCursors are things that a table can hold and the engine cannot use, with what the reason of the pause says.
var brokenCursors = []struct{ name, change, reason string }{
	{"done-all", "UPDATE postrider.cursors SET done = '{(,)}' WHERE subscription = $1", "done: multirange"},
	{"done-open", "UPDATE postrider.cursors SET done = '{[5,)}' WHERE subscription = $1", "done: multirange"},
	{"run-open", "UPDATE postrider.cursors SET done_ids = '{\"{(,5)}\"}', done_first = '{now}', done_last = '{now}' WHERE subscription = $1", "done: multirange"},
	{"run-null", "UPDATE postrider.cursors SET done_ids = '{NULL}', done_first = '{now}', done_last = '{now}' WHERE subscription = $1", "done: run"},
	{"run-short", "UPDATE postrider.cursors SET done_ids = '{\"{[1,5)}\"}' WHERE subscription = $1", "done: run"},
	{"future-base", "UPDATE postrider.cursors SET base = '99999999999:99999999999:' WHERE subscription = $1", "has not seen yet"},
	{"future-target", "UPDATE postrider.cursors SET target = '99999999999:99999999999:', after_id = 0 WHERE subscription = $1", "has not seen yet"},
	{"target-alone", "UPDATE postrider.cursors SET target = base WHERE subscription = $1", "after_id is null"},
	{"earlier-object", "UPDATE postrider.subscriptions SET earlier = '{}' WHERE name = $1", "earlier topics"},
	{"earlier-word", "UPDATE postrider.subscriptions SET earlier = '\"x\"' WHERE name = $1", "earlier topics"},
	{"earlier-until", "UPDATE postrider.subscriptions SET earlier = '[{\"topics\": [\"a\"], \"until\": \"9:5:\"}]' WHERE name = $1", "earlier topics"},
	{"earlier-topics", "UPDATE postrider.subscriptions SET earlier = '[{\"topics\": [7], \"until\": \"5:5:\"}]' WHERE name = $1", "earlier topics"},
	{"topics-null", "UPDATE postrider.subscriptions SET topics = '{NULL}' WHERE name = $1", "topics"},
	{"topics-square", "UPDATE postrider.subscriptions SET topics = '{{a,b},{c,d}}' WHERE name = $1", "topics"},
	{"topics-none", "UPDATE postrider.subscriptions SET topics = '{}' WHERE name = $1", "topics"},
	{"settings-list", "UPDATE postrider.subscriptions SET settings = '[1]' WHERE name = $1", "settings"},
	{"settings-type", "UPDATE postrider.subscriptions SET settings = '{\"lanes\": \"x\"}' WHERE name = $1", "lanes"},
	{"settings-huge", "UPDATE postrider.subscriptions SET settings = '{\"lanes\": 1e131071}' WHERE name = $1", "lanes"},
}

// brokenParked are parked rows that were written by nobody of ours, with the states that they may be in afterwards.
var brokenParked = []struct{ name, columns, values, end string }{
	{"due-never", "state, due", "'retrying', 'infinity'", "retrying"},
	{"due-ever", "state, due", "'retrying', '-infinity'", "gone"},
	{"due-none", "state, due", "'retrying', NULL", "gone"},
	{"scheduled-for-no-time", "state, due", "'scheduled', NULL", "gone"},
	{"due-last", "state, due", "'scheduled', '294276-12-31 23:59:59Z'", "scheduled"},
	{"due-first", "state, due", "'scheduled', '4713-01-01 00:00:00Z BC'", "gone"},
	{"leased-for-ever", "state, due, token, lease", "'leased', 'infinity', 5, '178000000 years'", "leased"},
	{"called-back-late", "state, due, token", "'failed', 'infinity', 5", "retrying"},
	{"called-back-ever", "state, due, token", "'failed', '-infinity', 5", "gone"},
	{"tried-often", "state, due, attempts", "'retrying', now(), 2147483647", "gone"},
	{"tried-never", "state, due, attempts", "'retrying', now(), -2147483648", "gone"},
	{"held-alone", "state, key", "'held', 'k'", "gone"},
	{"no-body", "state, due, payload", "'retrying', now(), NULL", "dead"},
	{"bad-topic", "state, due, topic", "'retrying', now(), E'no topic *\\n'", "gone"},
	{"bad-headers", "state, due, headers", "'retrying', now(), '[1]'", "gone"},
	{"born-never", "state, due, created_at", "'retrying', now(), 'infinity'", "gone"},
	{"born-first", "state, due, created_at", "'retrying', now(), '4713-01-01 00:00:00Z BC'", "gone"},
	{"born-last", "state, due, created_at", "'retrying', now(), '294276-12-31 23:59:59.999999Z'", "gone"},
	{"below-zero", "id, state, due", "-9223372036854775808, 'retrying', now()", "gone"},
	{"last-id", "id, state, due", "9223372036854775807, 'retrying', now()", "gone"},
}

// Whatever one row holds concerns its subscription alone: it is paused with a reason, or goes on, and so do all others.
func TestBrokenRowsConcernNobodyElse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, c := range []string{"cursors:done_is_bounded", "cursors:done_is_in_runs", "cursors:target_goes_with_after_id", "subscriptions:settings_are_an_object",
		"subscriptions:earlier_is_a_list_of_topics_with_snapshots", "subscriptions:topics_are_patterns"} {
		table, constraint, _ := strings.Cut(c, ":")
		b.Exec("ALTER TABLE postrider." + table + " DROP CONSTRAINT " + constraint)
	}
	b.subscribe("before", "{>}", "{}", "now")
	for _, c := range brokenCursors {
		b.subscribe(c.name, "{>}", "{}", "now")
	}
	b.Exec("ALTER TABLE postrider.subscriptions DISABLE TRIGGER subscription_changed")
	for _, c := range brokenCursors {
		if _, err := b.Admin.Exec(t.Context(), c.change, c.name); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	b.Exec("ALTER TABLE postrider.subscriptions ENABLE TRIGGER subscription_changed")
	for _, p := range brokenParked {
		b.subscribe(p.name, "{>}", "{}", "now")
		columns := map[string]string{"id": "70", "created_at": "now()", "topic": "'t'", "payload": "'0'"}
		for name := range strings.SplitSeq(p.columns, ", ") {
			delete(columns, name)
		}
		names, values := "subscription, "+p.columns, "'"+p.name+"', "+p.values
		for name, value := range columns {
			names, values = names+", "+name, values+", "+value
		}
		b.Exec("INSERT INTO postrider.parked (" + names + ") VALUES (" + values + ")")
	}
	b.Exec("INSERT INTO postrider.relays (schema, incarnation, name, version, unable) VALUES (99, gen_random_uuid(), '', '', '[7]')")
	good := b.subscribe("zzz", "{>}", "{}", "now")
	b.start()
	b.Publish("t", "k", "1", "2")
	wantPayloads(t, good, "1", "2")
	for _, c := range brokenCursors {
		eventually(t, c.name+" is paused with its reason", func() bool {
			return strings.Contains(scalar[string](b, "SELECT state || ': ' || coalesce(paused_reason, '') FROM postrider.subscriptions WHERE name = $1", c.name),
				c.reason) && scalar[bool](b, "SELECT state = 'paused' FROM postrider.subscriptions WHERE name = $1", c.name)
		})
	}
	for _, p := range brokenParked {
		eventually(t, p.name+" ends as "+p.end, func() bool {
			return scalar[string](b, "SELECT coalesce(min(state), 'gone') FROM postrider.parked WHERE subscription = $1", p.name) == p.end
		})
		eventually(t, p.name+" has the new messages", func() bool {
			return strings.HasSuffix(" "+strings.Join(b.recorder(p.name).payloads(), " "), "1 2") ||
				b.recorder(p.name).count() >= 2
		})
	}
	b.Exec("UPDATE postrider.subscriptions SET earlier = '[]' WHERE name LIKE 'earlier-%'") // a constraint keeps status from such
	if n := scalar[int](b, "SELECT count(*) FROM postrider.subscription_status WHERE lag_messages IS NOT NULL AND lag_seconds >= 0"); n != 2+len(brokenCursors)+len(brokenParked) {
		t.Errorf("status shows %d subscriptions", n)
	}
	if n := scalar[int](b, "SELECT count(DISTINCT subscription) FROM postrider.deliveries"); n < 2+len(brokenParked) {
		t.Errorf("deliveries shows %d subscriptions", n)
	}
}

// What the server refuses to store for one subscription is saved for the others.
func TestRefusedProgressConcernsNobodyElse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF NEW.subscription = 'bad' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON postrider.parked FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	texts := []string{"a\x00b", "a\xff\xfeb", "✓"}
	for _, name := range []string{"bad", "good", "other"} {
		r := b.subscribe(name, "{>}", "{}", "now")
		r.answer(func(d sinks.Delivery) error { return sinks.Permanent(errors.New(texts[(d.ID-1)%3])) })
	}
	b.start()
	b.Publish("t", "", "1", "2", "3")
	eventually(t, "two subscriptions have three dead messages each", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE state = 'dead'") == 6
	})
	if got := scalar[string](b, "SELECT string_agg(DISTINCT reason, ' ' ORDER BY reason) FROM postrider.parked"); !strings.Contains(got, "a\uFFFDb") || !strings.Contains(got, "a\uFFFD\uFFFDb") || !strings.Contains(got, "✓") {
		t.Errorf("the reasons are %q", got)
	}
	b.Exec("DROP TRIGGER refuse ON postrider.parked")
	eventually(t, "it goes on when it is mended", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE state = 'dead'") == 9
	})
}
