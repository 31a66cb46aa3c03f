package console

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/internal/admin"
)

// However many look, it is read once in a while, and not at all while nobody does.
func TestSamplerReadsWhileSomebodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		s := newSampler(func(context.Context) (*admin.StatusReport, error) {
			n := reads.Add(1)
			time.Sleep(10 * time.Millisecond)
			return &admin.StatusReport{Subscriptions: []admin.SubscriptionStatus{{Name: "a", LagMessages: n}}}, nil
		})
		defer s.close()
		look := func() int64 {
			report, err := s.look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return report.Subscriptions[0].LagMessages
		}
		for range 20 { // a minute
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() { look() })
			}
			all.Wait()
			time.Sleep(sampleEvery)
		}
		if n := reads.Load(); n < 15 || n > 25 {
			t.Errorf("%d reads in a minute, with 50 who look", n)
		}
		if n := len(s.lagOf("a")); n < 15 {
			t.Errorf("%d samples are remembered", n)
		}
		before := look()
		s.stale()
		if after := look(); after <= before {
			t.Errorf("after a change it is shown what was read before it: %d after %d", after, before)
		}
		time.Sleep(lookedFor + 2*sampleEvery)
		idle := reads.Load()
		time.Sleep(time.Hour)
		if n := reads.Load(); n != idle {
			t.Errorf("%d reads while nobody looks", n-idle)
		}
		if look(); reads.Load() != idle+1 {
			t.Error("who looks again gets what was read an hour ago")
		}
	})
}

// A database that is slow is asked the less.
func TestSamplerSparesASlowDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy atomic.Int64
		s := newSampler(func(context.Context) (*admin.StatusReport, error) {
			time.Sleep(time.Second)
			busy.Add(1)
			return &admin.StatusReport{}, nil
		})
		defer s.close()
		for range 300 {
			if _, err := s.look(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := busy.Load(); n > 300/sampleShare+2 {
			t.Errorf("it was asked for %d of 300 seconds", n)
		}
	})
}

func TestOwnPath(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "/subscriptions/a?x=1": "/subscriptions/a?x=1", "": "/", "//evil.example": "/", "https://evil.example/": "/", `/\evil.example`: "/", "evil": "/", "/%zz": "/",
	} {
		if got := ownPath(path); got != want {
			t.Errorf("%q leads to %q, want %q", path, got, want)
		}
	}
}

func TestSpark(t *testing.T) {
	if s := newSpark([]int64{5}); s.Points != "" {
		t.Errorf("one sample makes the curve %q", s.Points)
	}
	if s := newSpark([]int64{0, 10}); s.Points != "87.5,16.5 89.0,1.5" {
		t.Errorf("the curve is %q", s.Points)
	}
}
