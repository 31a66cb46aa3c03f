package maintain

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/store"
)

// fakeRing answers what a test says.
type fakeRing struct {
	length  time.Duration
	empty   map[int]store.Emptying
	fails   error
	refuses error // to note
	holders []store.Holder
	needers []store.Needer
	noted   [][]store.Held
}

func (f *fakeRing) Length(context.Context) (time.Duration, error)         { return f.length, nil }
func (f *fakeRing) Lengthen(_ context.Context, to time.Duration) error    { f.length = to; return nil }
func (f *fakeRing) Holders(context.Context, int) ([]store.Holder, error)  { return f.holders, nil }
func (f *fakeRing) NeededBy(context.Context, int) ([]store.Needer, error) { return f.needers, nil }
func (f *fakeRing) NoteHolders(_ context.Context, held []store.Held) error {
	f.noted = append(f.noted, held)
	return f.refuses
}
func (f *fakeRing) Empty(_ context.Context, segment int, _ time.Duration) (store.Emptying, error) {
	if segment == 3 && f.fails != nil {
		return store.SegmentStays, f.fails
	}
	return f.empty[segment], nil
}

// The ring comes round no sooner than after the retention, with room for what is being emptied, in whole seconds.
func TestRingFitsTheRetention(t *testing.T) {
	for _, c := range []struct{ keep, length, want time.Duration }{
		{12 * time.Hour, time.Minute, time.Hour},
		{12 * time.Hour, 2 * time.Hour, 2 * time.Hour},
		{13 * time.Second, time.Second, 2 * time.Second},
		{12 * time.Second, time.Second, time.Second},
	} {
		f := &fakeRing{length: c.length}
		NewRetention(f, c.keep, slog.New(slog.DiscardHandler), metrics.New(nil, nil)).fit(t.Context())
		if f.length != c.want {
			t.Errorf("retention %s, segments of %s: %s, want %s", c.keep, c.length, f.length, c.want)
		}
	}
}

// What is over is not remembered, and a holder that comes back is named again.
func TestHoldersAreForgotten(t *testing.T) {
	var log strings.Builder
	pid := int32(7)
	f := &fakeRing{length: time.Hour, empty: map[int]store.Emptying{2: store.SegmentInUse}, holders: []store.Holder{{PID: &pid}}}
	r := NewRetention(f, time.Hour, slog.New(slog.NewTextHandler(&log, nil)), metrics.New(nil, nil))
	r.Patience = 0
	for range 2 {
		r.Turn(t.Context())
		r.Turn(t.Context())
		if n := strings.Count(log.String(), "pid=7"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, &log)
		}
		log.Reset()
		f.empty[2] = store.SegmentEmptied
		r.Turn(t.Context())
		r.Turn(t.Context())
		if len(r.held.warned)+len(r.held.since) != 0 {
			t.Errorf("what is over is remembered: %v, %v", r.held.warned, r.held.since)
		}
		f.empty[2] = store.SegmentInUse
	}
}

// An error is logged once, keeps no other segment from being emptied, and is logged again after it was gone.
func TestSegmentsTroubleIsToldOnce(t *testing.T) {
	var log strings.Builder
	m := metrics.New(nil, nil)
	f := &fakeRing{length: time.Hour, empty: map[int]store.Emptying{4: store.SegmentEmptied}, fails: errors.New("no")}
	r := NewRetention(f, time.Hour, slog.New(slog.NewTextHandler(&log, nil)), m)
	told := func(want int) {
		t.Helper()
		if n := strings.Count(log.String(), `msg="segment not emptied" error="segment 3: no"`); n != want {
			t.Errorf("%d warnings, want %d:\n%s", n, want, &log)
		}
	}
	r.Turn(t.Context())
	r.Turn(t.Context())
	told(1)
	f.fails = nil
	r.Turn(t.Context())
	f.fails = errors.New("no")
	r.Turn(t.Context())
	told(2)
}

// Whoever holds segments is noted with how many these are, when that is news; and again if it could not be noted.
func TestHoldersAreNoted(t *testing.T) {
	pid := int32(7)
	f := &fakeRing{length: time.Hour, empty: map[int]store.Emptying{2: store.SegmentInUse, 3: store.SegmentNeeded, 4: store.SegmentNeeded},
		holders: []store.Holder{{PID: &pid}}, needers: []store.Needer{{Subscription: "billing", State: "paused"}}}
	r := NewRetention(f, time.Hour, slog.New(slog.DiscardHandler), metrics.New(nil, nil))
	r.Turn(t.Context())
	if len(f.noted) != 0 {
		t.Errorf("noted before its time: %+v", f.noted)
	}
	r.Patience = 0
	noted := func(what string, turns, want int) {
		t.Helper()
		for range turns {
			r.Turn(t.Context())
		}
		if len(f.noted) != want {
			t.Errorf("%s: noted %d times, want %d: %+v", what, len(f.noted), want, f.noted)
		}
	}
	noted("twice the same", 2, 1)
	if got := f.noted[0]; len(got) != 2 || got[0].Segments != 1 || got[0].Subject != "_locks" || got[1].Segments != 2 || got[1].Subject != "billing" || got[1].Holder != "subscription billing" {
		t.Errorf("noted: %+v", got)
	}
	f.empty[5] = store.SegmentNeeded
	noted("one segment more", 2, 2)
	f.refuses = errors.New("no")
	f.empty[6] = store.SegmentNeeded
	noted("when that fails", 2, 4)
	f.refuses = nil
	for segment := range f.empty {
		f.empty[segment] = store.SegmentEmptied
	}
	noted("nobody", 2, 4)
	if n := len(r.held.needed) + len(r.held.since) + len(r.held.found); n != 0 {
		t.Errorf("%d things are remembered", n)
	}
}
