package torture

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/hooktest"
)

// spell is a stretch of time with what was seen in it of the subscription that was cut off.
type spell struct {
	name     string
	from, to time.Time
	parked   int // most rows at once
}

// latencies returns how long after COMMIT messages arrived, in order; of those whose transaction ended in the stretch of time.
func (s *scene) latencies(x *subscription, t *truth, from, to time.Time) (list []time.Duration) {
	first := (&evidence{truth: t}).firsts(x.book.all())
	for id, ended := range t.ended {
		if at, ok := first[id]; ok && ended.After(from) && ended.Before(to) {
			list = append(list, at.Sub(ended))
		}
	}
	slices.Sort(list)
	return list
}

// during counts the parked rows of a subscription while work is done.
func (s *scene) during(name, parked string, work func()) (p spell) {
	s.t.Helper()
	var done sync.WaitGroup
	stop := make(chan struct{})
	p.name, p.from = name, time.Now()
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			n, err := one[int](s.t.Context(), s.db, "SELECT count(*)::int FROM postrider.parked WHERE subscription = $1 AND state IN ('retrying', 'held')", parked)
			if err == nil {
				p.parked = max(p.parked, n)
			}
		}
	})
	defer func() { close(stop); done.Wait() }()
	work()
	p.to = time.Now()
	return p
}

// releasesWAL waits until the stream's slot holds back nothing of what was written so far. (Slots move on with the records that
// PostgreSQL writes at checkpoints, and only as far as the oldest transaction.)
func (s *scene) releasesWAL() {
	s.t.Helper()
	now := value[string](s.t, s.world, "SELECT pg_current_wal_lsn()::text")
	s.until("the WAL is released", func() error {
		s.sql("CHECKPOINT")
		held, err := ask[string](s.t.Context(), s.db, `SELECT slot_name || ' holds back ' || pg_wal_lsn_diff($1::pg_lsn, least(restart_lsn, confirmed_flush_lsn)) || ' bytes'
			FROM pg_replication_slots WHERE least(restart_lsn, confirmed_flush_lsn) < $1::pg_lsn`, now)
		if err == nil && len(held) > 0 {
			err = fmt.Errorf("%v", held)
		}
		return err
	})
}

const (
	// memoryTasks is how many messages a subscription with the round's lanes keeps in memory. While its destination is down it takes
	// no more in; each of them may become a parked row (behind another of its key), no other message can.
	memoryTasks = 64
	// noisy is what the machine alone may do to a latency: other tests run on it. It is not busy all the time, though, and a destination
	// that delays others does so for as long as it is down: the quickest quarter tells the two apart.
	noisy, veryNoisy = 100 * time.Millisecond, 1500 * time.Millisecond
)

// While one destination is down, in whichever way, the others keep their latency, no WAL is held back, hardly anything is parked,
// and in the end all arrives. (Scheduled messages are left out: they are late on purpose.)
func TestOutageIsolation(t *testing.T) {
	t.Parallel()
	busy(t, Config{Follow: "stream", Relays: 1, NATSServers: 1}, kindsBut("scheduled"), func(s *scene) {
		clockwork := s.sub("strict") // about 15 messages a second, whatever else happens
		s.more(clockwork, 10)
		calm := s.during("before", "victim", func() { s.more(clockwork, 25) })
		var outages []spell
		for _, o := range []struct {
			name string
			b    hooktest.Behaviour
		}{{"answers 500", hooktest.Status(500)}, {"hangs", hooktest.Hang}, {"refuses connections", hooktest.Accept}} {
			s.victim.Set("/victim", o.b)
			if o.name == "refuses connections" {
				s.victim.Refuse()
			}
			outages = append(outages, s.during(o.name, "victim", func() {
				s.more(clockwork, 25)
				s.releasesWAL()
			}))
		}
		s.need(s.victim.Open())
		at := time.Now()
		s.incident(Incident{Fault: "http-refuse", From: at.Add(-time.Second), To: at, Repeats: victims})
		after := s.during("after", "victim", func() { s.more(clockwork, 25) })
		truth := s.settled()
		s.await(t.Context(), truth)
		for _, name := range []string{"events", "once", "hooks", "loose", "strict"} {
			// A machine that is busy gets busier while the test runs, with outages or without.
			before := s.latencies(s.sub(name), truth, calm.from, calm.to)
			usual := slower(before, s.latencies(s.sub(name), truth, after.from, after.to))
			for _, o := range outages {
				s.compare(name, o.name, usual, s.latencies(s.sub(name), truth, o.from, o.to))
			}
		}
		for _, o := range outages {
			s.say("victim %s for %v: at most %d rows parked", o.name, o.to.Sub(o.from).Round(time.Millisecond), o.parked)
			if o.parked > memoryTasks {
				t.Errorf("while its destination %s, %d messages of a subscription were parked, want at most %d", o.name, o.parked, memoryTasks)
			}
		}
	})
}

// slower returns the latencies of which the quickest quarter is the slower one.
func slower(a, b []time.Duration) []time.Duration {
	if len(b) >= 20 && len(a) >= 20 && b[len(b)/4] > a[len(a)/4] {
		return b
	}
	return a
}

// compare holds latencies in an outage against those without.
func (s *scene) compare(name, outage string, before, then []time.Duration) {
	s.t.Helper()
	if len(before) < 20 || len(then) < 20 {
		s.t.Fatalf("%s: %d messages without and %d while another destination %s are too few", name, len(before), len(then), outage)
	}
	at := func(list []time.Duration, part float64) time.Duration { return list[int(float64(len(list)-1)*part)] }
	for _, p := range []struct {
		what string
		part float64
		slow time.Duration
	}{{"quickest quarter", 0.25, noisy}, {"99th percentile", 0.99, veryNoisy}} {
		was, is := at(before, p.part), at(then, p.part)
		s.say("%s: %s %v without, %v while the victim %s", name, p.what, was, is, outage)
		if is > max(5*was, p.slow) {
			s.t.Errorf("%s: the %s was %v without an outage, and %v while another destination %s", name, p.what, was, is, outage)
		}
	}
}
