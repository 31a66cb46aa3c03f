package relay

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

// What an endpoint gave is kept with the progress that it made, and so is each attempt that did not succeed.
func TestResultsAndAttemptsAreKept(t *testing.T) {
	s := newScene(t)
	const quick = `{"backoff_initial": "1ms", "backoff_max": "1ms", "max_attempts": 3`
	plays := func(name, settings string) *actor {
		a := s.cast(name, "{>}", quick+settings+"}")
		a.plays(func(_ context.Context, d sinks.Delivery) error {
			switch {
			case d.Topic == "bad":
				return sinks.Permanent(errors.New("no such customer"))
			case d.Topic == "poor" || d.Topic == "mixed" && d.Attempt < 3:
				return sinks.Failed(errors.New("busy"), 0)
			}
			return sinks.Accepted([]byte(`{"seen":"` + d.Topic + `"}`))
		})
		return a
	}
	plays("some", "")
	plays("all", `, "keep_attempts": "all"`)
	plays("none", `, "keep_attempts": "none"`)
	s.play()
	id := map[string]int64{}
	for _, topic := range []string{"good", "bad", "poor", "mixed"} {
		id[topic] = s.Publish(topic, "", "1")[0]
	}
	tells := func(name, topic string) string {
		return scalar[string](s.bench, `SELECT status || ' ' || coalesce(result::text, '-') || coalesce((
				SELECT string_agg('; ' || attempt || ' ' || outcome || ' ' || coalesce(a.reason, '-') || CASE WHEN a.due > a.started_at THEN ' again' ELSE '' END, '' ORDER BY a.started_at, attempt)
				FROM postrider.attempts a WHERE a.subscription = d.of_subscription AND a.id = $1 AND a.created_at = d.created_at AND relay IS NOT NULL AND took >= '0'), '')
			FROM postrider.deliveries_of($1, $2) d`, id[topic], name)
	}
	for _, want := range []struct{ name, topic, tells string }{
		{"some", "good", `delivered {"seen":"good"}`},
		{"some", "bad", `dead -; 1 permanent no such customer`},
		{"some", "poor", `dead -; 1 failed busy again; 2 failed busy again; 3 failed busy`},
		{"some", "mixed", `delivered {"seen":"mixed"}; 1 failed busy again; 2 failed busy again`},
		{"all", "good", `delivered {"seen":"good"}; 1 accepted -`},
		{"all", "mixed", `delivered {"seen":"mixed"}; 1 failed busy again; 2 failed busy again; 3 accepted -`},
		{"none", "poor", `dead -`},
		{"none", "mixed", `delivered {"seen":"mixed"}`},
	} {
		got := ""
		deadline := time.Now().Add(patience)
		for got != want.tells && time.Now().Before(deadline) {
			got = tells(want.name, want.topic)
		}
		if got != want.tells {
			t.Errorf("%s, %s: %s\nwant %s", want.name, want.topic, got, want.tells)
		}
	}
}

// A save that a command has made void writes no record either: whoever delivers the message again has its own.
func TestRecordsAreFenced(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"keep_attempts": "all"}`)
	var n atomic.Int32
	a.plays(func(context.Context, sinks.Delivery) error {
		return sinks.Accepted([]byte(strings.Repeat("7", int(n.Add(1)))))
	})
	late := func(c *Config) { c.SaveInterval = time.Hour } // only the last save counts
	r := s.play(late)
	id := s.Publish("t", "", "1")[0]
	eventually(t, "it is delivered", func() bool { return n.Load() == 1 })
	s.Exec("UPDATE postrider.cursors SET epoch = epoch + 1")
	r.stop()
	if got := scalar[string](s.bench, `SELECT (SELECT count(*) FROM postrider.results) || ' ' || (SELECT count(*) FROM postrider.attempts)`); got != "0 0" {
		t.Errorf("results and attempts after a save that was refused: %s", got)
	}
	r = s.play(late)
	eventually(t, "it is delivered again", func() bool { return n.Load() == 2 })
	r.stop()
	s.shows("sub", "delivered", id)
	if got := scalar[string](s.bench, `SELECT (SELECT string_agg(result::text, ',') FROM postrider.results) || ' ' || (SELECT count(*) FROM postrider.attempts)`); got != "77 1" {
		t.Errorf("results and attempts: %s, want those of the second delivery alone", got)
	}
}

// While a destination is down each delivery that tried it is told of, before anything is settled, and what waits is not.
func TestAttemptsOfAnOutageAreKept(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"lanes": 2, "batch": 1}`)
	var up atomic.Bool
	var tried atomic.Int32
	a.plays(func(context.Context, sinks.Delivery) error {
		if up.Load() {
			return nil
		}
		tried.Add(1)
		return sinks.Unavailable(errors.New("connection refused"), 0)
	})
	s.play()
	ids := s.bulk("t", 200, 200)
	kept := func() int32 {
		return scalar[int32](s.bench, `SELECT count(*)::int FROM postrider.attempts WHERE outcome = 'unavailable' AND reason = 'connection refused'`)
	}
	eventually(t, "attempts are told of during the outage", func() bool { return kept() > 2 })
	if n := kept(); n > tried.Load() || int(n) >= len(ids) {
		t.Errorf("%d attempts are kept of %d, while %d messages wait", n, tried.Load(), len(ids))
	}
	s.shows("sub", "pending", ids[len(ids)-1])
	up.Store(true)
	a.got(t, ids)
	s.settledAll("sub")
	if n := kept(); n != tried.Load() {
		t.Errorf("%d attempts are kept of %d", n, tried.Load())
	}
}
