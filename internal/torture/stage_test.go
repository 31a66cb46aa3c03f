package torture

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	// The tests build the program: results of theirs are void once any of it has changed.
	_ "github.com/postrider/postrider/relay"
	_ "github.com/postrider/postrider/sinks/nats"
	_ "github.com/postrider/postrider/sinks/webhook"
)

// stage is a world whose course a test decides.
type stage struct {
	Config
	// prepare is SQL that the superuser runs before anything uses the schema.
	prepare string
	// only are the names of the subscriptions to have. nil: all.
	only []string
	// env goes to every relay and wins over the usual settings.
	env []string
	// lean builds the relay without the race detector, whose memory is not the relay's.
	lean bool
}

// set starts everything but relays and producers, and undoes it after the test.
func (s stage) set(t *testing.T) *world {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	w := &world{Config: s.Config}
	w.Seed, w.NATSServers = cmp.Or(w.Seed, uint64(time.Now().UnixNano())), cmp.Or(w.NATSServers, 1)
	w.Log = t.Output()
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("logs are kept in %s", w.dir)
		} else if err := os.RemoveAll(w.dir); err != nil {
			t.Error(err)
		}
	})
	for _, step := range []func(context.Context) error{
		w.makeDir, w.startDatabase, s.script(w), w.startNATS, s.choose(w), w.startReceivers, w.subscribe, s.relays(w),
	} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w.apps = &producers{history: &history{}, url: func() string { return w.db.url("app") }, rng: w.rng("producers")}
	return w
}

func (s stage) script(w *world) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := w.db.admin.Exec(ctx, s.prepare)
		return err
	}
}

// choose leaves out the subscriptions that are not wanted, and those of workers, of whom there are none here.
func (s stage) choose(w *world) func(context.Context) error {
	return func(context.Context) error {
		w.subs = slices.DeleteFunc(w.subs, func(sub *subscription) bool {
			return slices.Contains([]string{pulled, taken, alerts, ticks, effects, "urgent"}, sub.Name)
		})
		if s.only != nil {
			w.subs = slices.DeleteFunc(w.subs, func(sub *subscription) bool { return !slices.Contains(s.only, sub.Name) })
		}
		return nil
	}
}

// relays makes the relays and starts none.
func (s stage) relays(w *world) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		if w.Binary, err = program(relayRace && !s.lean); err != nil {
			return err
		}
		for i := range w.Relays {
			if err := w.addRelay(i); err != nil {
				return err
			}
			r := w.relays[i]
			r.env = append(r.env, s.env...)
		}
		return nil
	}
}

// play starts the relays and waits until all subscriptions are delivered to.
func (w *world) play(t *testing.T) {
	t.Helper()
	if err := w.mend(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// measured is measure for tests.
func (w *world) measured(t *testing.T) size {
	t.Helper()
	s, err := w.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// finish concludes the round and fails the test with every violation.
func (w *world) finish(t *testing.T, before size) *Report {
	t.Helper()
	r := &Report{Config: w.Config}
	if err := w.conclude(context.WithoutCancel(t.Context()), r, before); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(t.Output()); err != nil {
		t.Error(err)
	}
	for _, v := range r.Violations[:min(len(r.Violations), shown)] {
		t.Error(v)
	}
	return r
}

// fault takes down that the test itself injects a fault. It returns when that began.
func (w *world) fault(name string, do func()) time.Time {
	f := faultNamed(name)
	i := Incident{Fault: name, From: time.Now(), Hits: f.Hits, Repeats: f.Repeats}
	if f.Delays && w.Relays > 1 {
		i.Repeats = all
	}
	do()
	i.To = time.Now()
	w.incident(i)
	return i.From
}

// arrive inserts a message for each topic and waits until all that is due has arrived.
func (w *world) arrive(t *testing.T, within time.Duration) {
	t.Helper()
	if err := w.apps.mark(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.awaitAll(t, within)
}

// awaitAll waits until all that has committed so far has arrived.
func (w *world) awaitAll(t *testing.T, within time.Duration) {
	t.Helper()
	truth, err := w.truth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	due := make(map[*subscription][]int64)
	for _, s := range w.subs {
		due[s] = (&evidence{truth: truth}).due(s.Expectation)
	}
	eventually(t, within, func() error {
		n, err := w.missing(t.Context(), due)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d deliveries are missing", n)
		}
		return err
	})
}

// eventually polls, and fails the test with the last answer.
func eventually(t *testing.T, within time.Duration, ask func() error) {
	t.Helper()
	if err := poll(t.Context(), within, ask); err != nil {
		t.Fatal(err)
	}
}

// metric is a counter or gauge of the relay, of all series whose labels include these (label=value).
func (w *world) metric(t *testing.T, r *relay, name string, labels ...string) (sum float64) {
	t.Helper()
	var m metrics
	eventually(t, 20*time.Second, func() (err error) {
		m, err = r.metrics(t.Context())
		return err
	})
	for _, series := range m[name].GetMetric() {
		var has []string
		for _, l := range series.GetLabel() {
			has = append(has, l.GetName()+"="+l.GetValue())
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(has, l) }) {
			sum += series.GetCounter().GetValue() + series.GetGauge().GetValue()
		}
	}
	return sum
}

// value reads one value from the database.
func value[T any](t *testing.T, w *world, sql string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	v, err := one[T](ctx, w.db, sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// exec runs a statement as the superuser.
func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := w.db.admin.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// nothing fails with the rows that a query finds.
func (w *world) nothing(t *testing.T, what, sql string, args ...any) {
	t.Helper()
	list, err := ask[string](t.Context(), w.db, sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) > 0 {
		t.Errorf("%s: %d, such as\n%s", what, len(list), strings.Join(list[:min(len(list), 10)], "\n"))
	}
}
