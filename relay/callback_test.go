package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

// worker is an actor that takes messages of topic job over and says nothing more; tests call back for it.
type worker struct {
	*actor
	s    *scene
	name string
}

// worker makes a subscription to all topics whose sink takes jobs over, each for the given lease; with several, the first is that of the first attempt,
// and the last that of all the others.
func (s *scene) worker(name, settings string, leases ...time.Duration) *worker {
	s.t.Helper()
	w := &worker{actor: s.cast(name, "{>}", settings), s: s, name: name}
	w.plays(func(_ context.Context, d sinks.Delivery) error {
		if d.Topic != "job" {
			return nil
		}
		return sinks.Leased(leases[min(d.Attempt, len(leases))-1], rand.Int64()) // as random as a sink's
	})
	return w
}

// inTime calls back for the newest attempt at a message until that counts, and returns which one it was: a busy machine may miss a short lease.
func (w *worker) inTime(id int64, callback func(token int64) bool) (attempts int) {
	w.s.t.Helper()
	eventually(w.s.t, "a callback comes in time", func() bool {
		attempts = len(w.of(id))
		return attempts > 0 && callback(w.given(id, attempts))
	})
	return attempts
}

// took waits for the nth attempt at a message and until that is recorded, and returns its token.
func (w *worker) took(id int64, n int) (token int64) {
	w.s.t.Helper()
	eventually(w.s.t, "the message is taken over", func() bool {
		return scalar[int](w.s.bench, `SELECT count(*) FROM postrider.parked WHERE subscription = $1 AND id = $2 AND state = 'leased' AND attempts = $3`, w.name, id, n) == 1
	})
	return scalar[int64](w.s.bench, "SELECT token FROM postrider.parked WHERE subscription = $1 AND id = $2", w.name, id)
}

// given returns the token that the sink gave to the nth attempt, whatever became of it since.
func (w *worker) given(id int64, n int) int64 {
	w.s.t.Helper()
	outcome, ok := errors.AsType[*sinks.OutcomeError](w.of(id)[n-1].err)
	if !ok {
		w.s.t.Fatalf("attempt %d at message %d was not taken over", n, id)
	}
	return outcome.Token
}

func (w *worker) complete(id, token int64) bool {
	w.s.t.Helper()
	return scalar[bool](w.s.bench, "SELECT postrider.complete($1, $2, $3)", w.name, id, token)
}

func (w *worker) state(id, token int64) string {
	w.s.t.Helper()
	return scalar[string](w.s.bench, "SELECT postrider.attempt_state($1, $2, $3)", w.name, id, token)
}

const fastRetry = `"backoff_initial": "10ms", "backoff_max": "20ms"`

// What is taken over holds its key until its callback completes it; other keys go on. A callback counts once.
func TestCallbackCompletes(t *testing.T) {
	s := newScene(t)
	w := s.worker("jobs", "{"+fastRetry+"}", time.Hour)
	s.play()
	job := s.Publish("job", "k", `1`)[0]
	token := w.took(job, 1)
	behind, others := s.Publish("note", "k", `2`), append(s.Publish("note", "l", `3`), s.Publish("note", "", `4`)...)
	w.got(t, others)
	s.shows("jobs", "held", behind...)
	s.shows("jobs", "leased", job)
	if n := scalar[int](s.bench, "SELECT leased FROM postrider.subscription_status"); n != 1 {
		t.Errorf("status counts %d leased deliveries, want 1", n)
	}
	if w.complete(job, token+1) || w.complete(job+1, token) || w.state(job, token) != "waiting" {
		t.Error("a callback with another token or for another message counts")
	}
	if !w.complete(job, token) || w.complete(job, token) {
		t.Error("a callback counts not once")
	}
	w.got(t, behind)
	s.settledAll("jobs")
	eventually(t, "nothing is parked", func() bool { return s.parkedIn("jobs", "completed", "leased", "held") == 0 })
	if state := w.state(job, token); state != "over" {
		t.Errorf("the attempt is %s, want over", state)
	}
	if n := len(w.of(job)); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
}

// A receiver may call back before it answers: such a callback is early, not too late.
func TestCallbackBeforeTheAnswer(t *testing.T) {
	s := newScene(t)
	a := s.cast("jobs", "{>}", "{"+fastRetry+"}")
	begun, let := make(chan struct{}, 2), make(chan struct{})
	a.plays(func(context.Context, sinks.Delivery) error {
		begun <- struct{}{}
		<-let
		return sinks.Leased(time.Hour, 7)
	})
	s.play()
	job := s.Publish("job", "k", `1`)[0]
	w := &worker{actor: a, s: s, name: "jobs"}
	<-begun
	if state := w.state(job, 7); state != "early" || w.complete(job, 7) {
		t.Errorf("the attempt is %s before it is recorded, want early", state)
	}
	close(let)
	w.took(job, 1)
	if state := w.state(job, 7); state != "waiting" || w.state(job, 6) != "over" || w.state(job, 8) != "over" {
		t.Errorf("the attempt is %s, others %s and %s", state, w.state(job, 6), w.state(job, 8))
	}
	if !w.complete(job, 7) {
		t.Error("the callback does not count")
	}
	s.settledAll("jobs")
	if state := w.state(job, 7); state != "over" {
		t.Errorf("the attempt is %s after its callback, want over", state)
	}
}

// What was taken over just before a stop lost its patience is taken over.
func TestTakenOverAtTheEndOfAStop(t *testing.T) {
	s := newScene(t)
	a := s.cast("jobs", "{>}", "{}")
	begun := make(chan struct{}, 1)
	a.plays(func(ctx context.Context, _ sinks.Delivery) error {
		begun <- struct{}{}
		<-ctx.Done()
		return sinks.Leased(time.Hour, 5)
	})
	r := s.play(func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
	job := s.Publish("job", "k", `1`)[0]
	<-begun
	r.stop()
	if state := s.status("jobs", job); state != "leased" {
		t.Errorf("the message is %s, want leased", state)
	}
}

// A failure is retried as other failures are, later if the receiver asks for that, until the attempts are used up.
func TestCallbackFails(t *testing.T) {
	s := newScene(t)
	w := s.worker("jobs", `{"max_attempts": 3, `+fastRetry+"}", time.Hour)
	s.play()
	job := s.Publish("job", "k", `1`)[0]
	behind := s.Publish("note", "k", `2`)
	first := w.took(job, 1)
	fail := func(token int64, rest string) bool {
		t.Helper()
		return scalar[bool](s.bench, "SELECT postrider.fail('jobs', $1, $2"+rest+")", job, token)
	}
	failed := time.Now()
	if !fail(first, ", 'no space left', '1500ms'") || fail(first, "") {
		t.Error("a failure counts not once")
	}
	second := w.took(job, 2)
	if d := w.of(job)[1].at.Sub(failed); d < 1500*time.Millisecond {
		t.Errorf("tried again after %s, though the receiver asked for 1500ms", d)
	}
	if w.complete(job, first) || !fail(second, "") {
		t.Error("the token of an old attempt counts, or that of the new one does not")
	}
	third := w.took(job, 3)
	if !fail(third, ", 'still no space'") {
		t.Error("the third failure does not count")
	}
	s.shows("jobs", "dead", job)
	want := "gave up after 3 attempts: the receiver reports: still no space"
	if reason := scalar[string](s.bench, "SELECT reason FROM postrider.parked WHERE id = $1", job); reason != want {
		t.Errorf("reason %q, want %q", reason, want)
	}
	w.got(t, behind)

	again := s.Publish("job", "m", `3`)[0]
	token := w.took(again, 1)
	if !scalar[bool](s.bench, "SELECT postrider.fail('jobs', $1, $2, 'not for me', dead => true)", again, token) {
		t.Error("the failure does not count")
	}
	s.shows("jobs", "dead", again)
	if n := len(w.of(again)); n != 1 {
		t.Errorf("%d attempts at what is dead at once, want 1", n)
	}
}

// Silence past the lease means again; the attempt before counts no more.
func TestLeaseEnds(t *testing.T) {
	s := newScene(t)
	w := s.worker("jobs", "{"+fastRetry+"}", 300*time.Millisecond, time.Hour)
	s.play()
	job := s.Publish("job", "k", `1`)[0]
	second := w.took(job, 2)
	first := w.given(job, 1)
	if second == first || w.complete(job, first) || w.state(job, first) != "over" {
		t.Errorf("the first attempt, with token %d, still counts beside the second, with %d", first, second)
	}
	if at := w.of(job); at[1].at.Sub(at[0].at) < 300*time.Millisecond {
		t.Errorf("tried again after %s, within the lease", at[1].at.Sub(at[0].at))
	}
	if !w.complete(job, second) {
		t.Error("the second attempt does not count")
	}
	s.settledAll("jobs")
}

// A heartbeat makes the lease begin anew.
func TestHeartbeat(t *testing.T) {
	s := newScene(t)
	w := s.worker("jobs", `{"max_attempts": 1000, `+fastRetry+"}", 700*time.Millisecond)
	s.play()
	job := s.Publish("job", "", `1`)[0]
	var token int64
	var until *time.Time
	attempts := w.inTime(job, func(now int64) bool {
		token, until = now, scalar[*time.Time](s.bench, "SELECT postrider.heartbeat('jobs', $1, $2, '1 hour')", job, now)
		return until != nil
	})
	if time.Until(*until) < 59*time.Minute {
		t.Errorf("the lease lasts until %s", until)
	}
	eventually(t, "the first lease would be over", func() bool { // and looked at
		return scalar[bool](s.bench, "SELECT clock_timestamp() > updated_at + interval '2 seconds' FROM postrider.parked")
	})
	if n := len(w.of(job)); n != attempts {
		t.Errorf("%d attempts, want %d: the heartbeat came in time", n, attempts)
	}
	if scalar[*time.Time](s.bench, "SELECT postrider.heartbeat('jobs', $1, $2)", job, token+1) != nil {
		t.Error("a heartbeat with another token counts")
	}
	if !w.complete(job, token) {
		t.Error("the attempt does not count any more")
	}
	s.settledAll("jobs")
}

// Callbacks need no relay: what they said while none ran is found by the next one, and what still waits goes on waiting.
func TestCallbacksBetweenRelays(t *testing.T) {
	s := newScene(t)
	w := s.worker("jobs", "{"+fastRetry+"}", time.Hour)
	r := s.play()
	var jobs []int64
	tokens := make(map[int64]int64)
	for _, key := range []string{"a", "b", "c"} {
		id := s.Publish("job", key, `1`)[0]
		tokens[id] = w.took(id, 1)
		jobs = append(jobs, id)
	}
	r.stop()
	behind := slices.Concat(s.Publish("note", "a", `2`), s.Publish("note", "b", `2`), s.Publish("note", "c", `2`))
	if !w.complete(jobs[0], tokens[jobs[0]]) || !scalar[bool](s.bench, "SELECT postrider.fail('jobs', $1, $2)", jobs[1], tokens[jobs[1]]) {
		t.Fatal("the callbacks do not count")
	}
	s.play()
	w.got(t, behind[:1])
	w.took(jobs[1], 2)
	s.shows("jobs", "held", behind[1:]...)
	if n := len(w.of(jobs[2])); n != 1 {
		t.Errorf("%d attempts at what still waits, want 1", n)
	}
	s.Exec("UPDATE postrider.parked SET due = due - interval '2 hours' WHERE id = $1", jobs[1])
	late := scalar[int64](s.bench, "SELECT token FROM postrider.parked WHERE id = $1", jobs[1])
	if w.complete(jobs[1], late) || scalar[bool](s.bench, "SELECT postrider.fail('jobs', $1, $2)", jobs[1], late) ||
		scalar[*time.Time](s.bench, "SELECT postrider.heartbeat('jobs', $1, $2)", jobs[1], late) != nil {
		t.Error("a callback after the end of the lease counts")
	}
	s.crash() // the next generation knows of the leases as well
	if !w.complete(jobs[2], tokens[jobs[2]]) {
		t.Error("the attempt before the crash does not count")
	}
	w.got(t, behind[2:])
	if n := len(w.of(jobs[2])); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
}

// A callback that somebody leaves open in a transaction keeps its own delivery waiting beyond the lease, and nothing else.
func TestCallbackLeftOpen(t *testing.T) {
	s := newScene(t)
	w := s.worker("jobs", `{"max_attempts": 1000, `+fastRetry+"}", time.Second)
	s.play()
	kept, other := s.Publish("job", "k", `1`)[0], s.Publish("job", "l", `2`)[0]
	tx, err := s.Admin.Begin(t.Context())
	mend(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	attempts := w.inTime(kept, func(token int64) (counts bool) {
		mend(t, tx.QueryRow(t.Context(), "SELECT postrider.complete('jobs', $1, $2)", kept, token).Scan(&counts))
		return counts
	})
	meanwhile := len(w.of(other))
	eventually(t, "the other's lease is over", func() bool { return len(w.of(other)) > meanwhile })
	eventually(t, "its lease would be over, and looked at", func() bool {
		return scalar[bool](s.bench, "SELECT clock_timestamp() > due + interval '1 second' FROM postrider.parked WHERE id = $1", kept)
	})
	w.got(t, s.Publish("note", "", `3`))
	if n := len(w.of(kept)); n != attempts {
		t.Errorf("%d attempts while the callback is under way, want %d", n, attempts)
	}
	mend(t, tx.Commit(t.Context()))
	s.shows("jobs", "delivered", kept)
	if n := len(w.of(kept)); n != attempts {
		t.Errorf("%d attempts, want %d", n, attempts)
	}
}

// More callbacks than one look takes, of a subscription whose cursor somebody has locked, delay no other subscription.
func TestCallbacksOfALockedCursor(t *testing.T) {
	s := newScene(t)
	locked := s.worker("a", `{"max_parked": 5000}`, time.Hour)
	other := s.worker("b", "{}", time.Hour)
	s.Exec("UPDATE postrider.subscriptions SET topics = '{none}' WHERE name = 'b'")
	s.play()
	jobs := s.bulk("job", readAtMost+100, 0)
	eventually(t, "all are taken over", func() bool { return s.parkedIn("a", "leased") == len(jobs) })
	s.Exec("UPDATE postrider.subscriptions SET topics = '{job}' WHERE name = 'b'")
	tx, err := s.Admin.Begin(t.Context())
	mend(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	_, err = tx.Exec(t.Context(), "SELECT FROM postrider.cursors WHERE subscription = 'a' FOR UPDATE")
	mend(t, err)
	s.Exec("SELECT postrider.complete('a', id, token) FROM postrider.parked WHERE subscription = 'a'")
	job := s.Publish("job", "", `1`)[0]
	token := other.took(job, 1)
	if !other.complete(job, token) {
		t.Fatal("the callback does not count")
	}
	eventually(t, "the other's callback is looked up", func() bool { return s.parkedIn("b", "completed", "leased") == 0 })
	if n := s.parkedIn("a", "completed"); n != len(jobs) {
		t.Errorf("%d rows are left of a cursor that is locked, want %d", n, len(jobs))
	}
	mend(t, tx.Rollback(t.Context()))
	eventually(t, "all rows are gone", func() bool { return s.parkedIn("a", "completed") == 0 })
	if n := locked.again(); n > 0 || len(locked.of(jobs[0])) != 1 {
		t.Errorf("%d messages were delivered again", n)
	}
}

// A redrive by id ends the attempt that waits, and begins with the first one again; discarded work is not asked for.
func TestRedriveAndDiscardAccepted(t *testing.T) {
	s := newScene(t)
	w := s.worker("jobs", "{"+fastRetry+"}", time.Hour)
	s.play()
	job, unwanted := s.Publish("job", "k", `1`)[0], s.Publish("job", "l", `2`)[0]
	first, token := w.took(job, 1), w.took(unwanted, 1)
	s.Exec("SELECT postrider.redrive('jobs', ARRAY[$1::bigint])", job)
	eventually(t, "it is tried again", func() bool { return len(w.of(job)) == 2 })
	second := w.took(job, 1)
	if w.complete(job, first) || !w.complete(job, second) {
		t.Error("the attempt before the redrive counts, or the one after it does not")
	}
	s.Exec("SELECT postrider.discard('jobs', ARRAY[$1::bigint])", unwanted)
	if w.complete(unwanted, token) {
		t.Error("discarded work counts")
	}
	w.got(t, s.Publish("note", "l", `3`))
	s.shows("jobs", "discarded", unwanted)
}

// In a strict subscription everything waits for what is taken over, and max_parked bounds how much is.
func TestAcceptedIsBounded(t *testing.T) {
	s := newScene(t)
	strict := s.worker("strict", `{"ordering": "strict", `+fastRetry+"}", time.Hour)
	few := s.worker("few", `{"max_parked": 2, "lanes": 1, "batch": 1, `+fastRetry+"}", time.Hour)
	s.play()
	jobs := s.Publish("job", "", `1`, `2`, `3`)
	for i, id := range jobs {
		token := strict.took(id, 1)
		if n := len(strict.all()); n != i+1 {
			t.Errorf("%d attempts while job %d is at work, want %d", n, i+1, i+1)
		}
		if !strict.complete(id, token) {
			t.Errorf("job %d: the callback does not count", i+1)
		}
	}
	more := s.bulk("job", 200, 0)
	eventually(t, "intake stops", func() bool {
		return scalar[string](s.bench, "SELECT coalesce(trouble, '') FROM postrider.cursors WHERE subscription = 'few'") != ""
	})
	bound := 2 + 64 + 1 // and what was on its way
	if n := s.parkedIn("few", "leased"); n > bound {
		t.Errorf("%d deliveries are at work, want %d at most", n, bound)
	}
	done := 0
	for deadline := time.Now().Add(patience); done < len(jobs)+len(more) && time.Now().Before(deadline); {
		done += scalar[int](s.bench, `SELECT count(*) FROM (SELECT postrider.complete('few', id, token) AS ok FROM postrider.parked
			WHERE subscription = 'few' AND state = 'leased') c WHERE ok`)
	}
	if want := len(jobs) + len(more); done != want || len(few.all()) != want {
		t.Errorf("%d jobs completed in %d attempts, want %d", done, len(few.all()), want)
	}
}

// ReadCallbacks spares a callback the wait for the next read, which here never comes.
func TestLookAtOnce(t *testing.T) {
	s := newScene(t)
	w := s.worker("jobs", "{}", time.Hour)
	r := s.play(func(c *Config) { c.callbackEvery = time.Hour })
	r.ReadCallbacks() // nothing to see
	for range 3 {
		job := s.Publish("job", "", `1`)[0]
		token := w.took(job, 1)
		if !w.complete(job, token) {
			t.Fatal("the callback does not count")
		}
		eventually(t, "its row is gone", func() bool {
			r.ReadCallbacks() // again, since one that is found before its runner knows of the save counts at a later read
			return s.parkedIn("jobs", "completed") == 0
		})
	}
}

// Tokens are random: what an unknown one means is told by whether an attempt may be under way.
func TestStatesOfUnknownTokens(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("a", "{>}", "{}", "now")
	b.Publish("t", "", "1", "2")
	b.Exec("UPDATE postrider.cursors SET base = pg_current_snapshot()")
	unsettled := b.Publish("t", "", "3")[0]
	state := func(id, token int64) string {
		return scalar[string](b, "SELECT postrider.attempt_state('a', $1, $2)", id, token)
	}
	if got := state(unsettled, 5) + " " + state(1, 5) + " " + state(99, 5); got != "early over over" {
		t.Errorf("a message that is not settled, a settled one and none are %s", got)
	}
	const known = 1 << 62
	for _, c := range []struct{ row, known, unknown string }{
		{"'leased', now() + interval '1 minute'", "waiting", "over"},
		{"'leased', now() - interval '1 minute'", "over", "over"},
		{"'completed', NULL", "over", "over"},
		{"'failed', now()", "over", "over"},
		{"'dead', NULL", "over", "over"},
		{"'discarded', NULL", "over", "over"},
		{"'retrying', now() - interval '1 minute'", "over", "early"},
		{"'retrying', now() + interval '1 minute'", "over", "early"}, // clocks differ
		{"'retrying', now() + interval '1 hour'", "over", "over"},
		{"'held', NULL", "over", "early"},
	} {
		// A former life of its row waits for nothing.
		b.Exec("DELETE FROM postrider.parked")
		b.Exec("INSERT INTO postrider.parked (subscription, id, created_at, token, topic, payload, state, due) VALUES ('a', 3, '2020-01-01', 7, 't', '0', 'dead', NULL)")
		b.Exec("INSERT INTO postrider.parked (subscription, id, created_at, token, topic, payload, state, due) SELECT 'a', id, created_at, " +
			"4611686018427387904, topic, payload, " + c.row + " FROM postrider.outbox WHERE id = 3")
		for token, want := range map[int64]string{known: c.known, 1: c.unknown, 1<<63 - 1: c.unknown, 7: "over"} {
			if got := state(unsettled, token); got != want {
				t.Errorf("%s: token %d is %s, want %s", c.row, token, got, want)
			}
		}
	}
}
