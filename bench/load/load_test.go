package load

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestRecorder(t *testing.T) {
	var r Recorder
	at := time.Unix(100, 5)
	r.Committed(1, 1, at)
	r.Committed(70_000, 10, at.Add(time.Second))
	times := r.Times()
	if r.Count() != 11 || times[0] != 0 || times[1] != at.UnixNano() || times[2] != 0 {
		t.Errorf("%d messages, the first at %v", r.Count(), times[:3])
	}
	for n := 70_000; n < 70_010; n++ {
		if times[n] != at.Add(time.Second).UnixNano() {
			t.Errorf("message %d: %d", n, times[n])
		}
	}
}

func TestLatencies(t *testing.T) {
	ms := time.Millisecond.Nanoseconds()
	commits := []int64{0, 10 * ms, 20 * ms, 0, 40 * ms, 50 * ms, 60 * ms}
	arrivals := []int64{0, 13 * ms, 19 * ms, 99 * ms, 0, 57 * ms} // 3 is not committed, 4 and 6 are missing
	h, missing := Latencies(commits, arrivals, nil)
	if l := h.Latency(); missing != 2 || l.Count != 3 || l.Early != 1 || l.P50 < 3 || l.P50 > 3.01 || l.Max < 7 || l.Max > 7.01 {
		t.Errorf("%d missing, %+v", missing, l)
	}
	late := func(n int64, at time.Time) bool { return n > 1 && at.UnixNano() >= 50*ms }
	h, missing = Latencies(commits, arrivals, late)
	if l := h.Latency(); missing != 1 || l.Count != 1 || l.Early != 0 {
		t.Errorf("of the later ones %d are missing, %+v", missing, l)
	}
}

// TestScheduleDoesNotSlip is late with some transactions, and must not shift the others.
func TestScheduleDoesNotSlip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{Producer: Producer{Rate: 100, Duration: 50 * time.Millisecond}, began: time.Now()}
		time.Sleep(32 * time.Millisecond) // in which nobody took a transaction
		for i, want := range []time.Duration{32, 32, 32, 32, 40} {
			if !r.await(t.Context(), int64(i)) {
				t.Fatalf("transaction %d is not in the schedule", i)
			}
			if since := time.Since(r.began); since != want*time.Millisecond {
				t.Errorf("transaction %d began %v after the start, want %dms", i, since, want)
			}
		}
		if r.await(t.Context(), 5) {
			t.Error("the schedule does not end")
		}
		if late := time.Duration(r.late.Load()); late != 32*time.Millisecond {
			t.Errorf("the first was late by %v", late)
		}
	})
}
