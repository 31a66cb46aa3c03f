package pull

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

// loads is a message that is too large to wait in memory.
type loads struct {
	m     sinks.Message
	err   error
	wait  bool // until its caller is gone
	freed int
}

func (l *loads) load(ctx context.Context) (*sinks.Message, func(), error) {
	if l.wait {
		<-ctx.Done()
		return nil, nil, ctx.Err()
	}
	return &l.m, func() { l.freed++ }, l.err
}

// largeHub has a line with these messages, all of them large but those that are nil.
func largeHub(t *testing.T, all ...*loads) (h *Hub, ended map[int64]error) {
	h, ended = NewHub(func() bool { return true }, func(Lost) {}, slog.New(slog.DiscardHandler)), make(map[int64]error)
	s, err := h.Open("jobs", Setup{15 * time.Second, 5 * time.Minute, 20}, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); h.timer.Stop() })
	for i, l := range all {
		id := int64(i + 1)
		d := sinks.Delivery{Message: &sinks.Message{ID: id}, Subscription: "jobs", Attempt: 1}
		if l != nil {
			l.m.ID, d.Load = id, l.load
		}
		s.(sinks.Sender).Send(t.Context(), d, func(outcome error) { ended[id] = outcome })
	}
	return h, ended
}

func take(t *testing.T, h *Hub, ctx context.Context, wait time.Duration) (ids []int64, jobs []Job) {
	t.Helper()
	jobs, err := h.Take(ctx, Caller{Worker: "w", Incarnation: "1"}, upToTen, wait)
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		ids = append(ids, j.ID)
	}
	return ids, jobs
}

// A large job comes alone, whole, and in its turn; its memory is given back when the answer says so, and not before.
func TestLargeJobsComeAlone(t *testing.T) {
	a, b := &loads{m: sinks.Message{Payload: []byte("large")}}, &loads{}
	h, _ := largeHub(t, nil, nil, a, b, nil)
	for _, want := range [][]int64{{1, 2}, {3}, {4}, {5}} {
		got, jobs := take(t, h, t.Context(), 0)
		if !slices.Equal(got, want) {
			t.Fatalf("jobs %v came, want %v", got, want)
		}
		if got[0] != 3 {
			continue
		}
		if string(jobs[0].Payload) != "large" || a.freed != 0 {
			t.Errorf("it came with %q, freed %d times", jobs[0].Payload, a.freed)
		}
		if jobs[0].Free(); a.freed != 1 {
			t.Error("its memory is not given back")
		}
	}
}

// A call that waits gets a large job alone, too, however many come with it.
func TestWaitingCallGetsLargeJobAlone(t *testing.T) {
	b := newBench()
	x := b.await(b.worker(t, "w"), upToTen)
	b.send(context.Background(), b.line, sinks.Delivery{Message: &sinks.Message{ID: 1}, Subscription: "jobs", Attempt: 1, Load: new(loads).load}, func(error) {})
	b.post(2, 3)
	if got := b.collect(x); len(got) != 1 || got[0].ID != 1 {
		t.Errorf("%d jobs came with the large one", len(got)-1)
	}
}

// What cannot be read ends with the reason; what nobody waits for any more goes to the next.
func TestLargeJobsThatCannotBeLoaded(t *testing.T) {
	broken := errors.New("it cannot be read")
	bad, headers, slow := &loads{err: broken}, &loads{m: sinks.Message{Headers: []byte(`{"a": 1}`)}}, &loads{wait: true}
	h, ended := largeHub(t, bad, headers, slow)
	for range 2 {
		if got, _ := take(t, h, t.Context(), 0); len(got) != 0 {
			t.Errorf("jobs %v came, of which none can", got)
		}
	}
	kind, _ := sinks.Classify(ended[2])
	if ended[1] != broken || kind != sinks.KindPermanent || headers.freed != 1 {
		t.Errorf("they ended as %v and %v, freed %d times", ended[1], ended[2], headers.freed)
	}
	ctx, gone := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer gone()
	if got, _ := take(t, h, ctx, 0); len(got) != 0 {
		t.Errorf("jobs %v came to a caller that is gone", got)
	}
	slow.wait = false
	if got, _ := take(t, h, t.Context(), 0); !slices.Equal(got, []int64{3}) {
		t.Errorf("jobs %v came, want the one whose caller was gone", got)
	}
}
