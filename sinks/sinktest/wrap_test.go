package sinktest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// told is what a stage was told of one attempt.
type told struct {
	sinks.Delivery
	since    time.Time
	together int
	outcome  error
}

// record is a stage that remembers what it is told.
func record(list *[]told) sinks.Stage {
	var mu sync.Mutex
	return sinks.Stage{Record: func(d *sinks.Delivery, since time.Time, together int, outcome error) {
		mu.Lock()
		defer mu.Unlock()
		*list = append(*list, told{*d, since, together, outcome})
	}}
}

// A stage that records is told of each attempt that the sink has seen, once, with what the sink itself has said of it.
func TestRecord(t *testing.T) {
	refusal := errors.New("no")
	for name, deliver := range map[string]func(sinks.Sink, ...sinks.Delivery) []error{
		"batch": func(s sinks.Sink, batch ...sinks.Delivery) []error { return sinktest.Deliver(t.Context(), s, batch...) },
		"one by one": func(s sinks.Sink, batch ...sinks.Delivery) []error {
			return sinktest.Deliver(t.Context(), sinks.AsSink(s.(sinks.Sender)), batch...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := &sinktest.Memory{Answer: func(d sinks.Delivery) error {
				if d.Topic == "refused" {
					return refusal
				}
				return nil
			}}
			var seen []told
			recorder := record(&seen)
			recorder.Before = func(d *sinks.Delivery) (bool, error) { return d.Topic == "filtered", nil }
			recorder.After = func(_ *sinks.Delivery, outcome error) error {
				if outcome != nil {
					return sinks.Permanent(outcome)
				}
				return nil
			}
			s := sinks.Wrap(m.Open(), recorder)
			defer s.Close()
			begun := time.Now()
			filtered, refused, good := sinktest.NewDelivery("filtered", "{}"), sinktest.NewDelivery("refused", "{}"), sinktest.NewDelivery("good", "{}")
			sinktest.WantKinds(t, deliver(s, filtered, refused, good), sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted)
			if len(seen) != 2 {
				t.Fatalf("told of %d attempts, want 2: %+v", len(seen), seen)
			}
			together := map[string]int{"batch": 2, "one by one": 1}[name]
			for _, x := range seen {
				if (x.outcome == refusal) != (x.Topic == "refused") || x.together != together || x.since.Before(begun) || time.Since(x.since) < 0 {
					t.Errorf("told %+v", x)
				}
			}
		})
	}
}

// able is a sink that can do all that one can do.
type able struct {
	sinks.SinkSender
	did string
}

func (a *able) Serve([]sinks.Lease, func(int64, error)) { a.did += "serve " }
func (a *able) LeaseOut(time.Duration)                  { a.did += "lease " }
func (a *able) Relinquish()                             { a.did += "relinquish " }
func (a *able) Cancel(map[int64]bool)                   { a.did += "cancel " }
func (a *able) LoadsLate()                              {}
func (a *able) Trouble() (string, time.Duration)        { return "trouble", 0 }

// Send loads what was left behind, and gives it back, before it delivers.
func (a *able) Send(ctx context.Context, d sinks.Delivery, done func(error)) {
	if d.Load != nil {
		m, free, err := d.Load(ctx)
		if err != nil {
			done(err)
			return
		}
		free()
		_ = m
	}
	a.SinkSender.Send(ctx, d, done)
}

// What a sink can do beside delivering it can do behind stages as well; what it cannot do, no stage makes it seem to.
func TestAs(t *testing.T) {
	m := new(sinktest.Memory)
	a := &able{SinkSender: sinks.AsSink(sinks.AsSender(m.Open()))}
	var seen []told
	s := sinks.Wrap(a, record(&seen), record(&seen))
	defer s.Close()
	if l, ok := sinks.As[sinks.Lessor](s); ok {
		l.Serve(nil, nil)
		l.LeaseOut(0)
	}
	if r, ok := sinks.As[sinks.Relinquisher](s); ok {
		r.Relinquish()
	}
	if c, ok := sinks.As[sinks.Canceller](s); ok {
		c.Cancel(nil)
	}
	if of, ok := sinks.As[sinks.Troubled](s); !ok {
		t.Error("it is in no trouble behind a stage")
	} else if text, _ := of.Trouble(); text != "trouble" {
		t.Errorf("its trouble is %q", text)
	}
	if a.did != "serve lease relinquish cancel " {
		t.Errorf("it did %q", a.did)
	}
	plain := sinks.Wrap(onlySink{new(sinktest.Memory).Open()}, pass)
	defer plain.Close()
	if _, ok := sinks.As[sinks.Lessor](plain); ok {
		t.Error("a plain sink leases behind a stage")
	}
	if _, ok := plain.(sinks.Sender); ok {
		t.Error("a plain sink is a Sender behind a stage")
	}
}

// A message that is loaded late stays so behind a stage that only records, which is told its headers unless they are large; a stage that has to see
// messages before has them loaded.
func TestWrapLate(t *testing.T) {
	for name, headers := range map[string]string{"headers": `{"traceparent":"x"}`, "large headers": `{"a":"` + strings.Repeat("b", 8<<10) + `"}`} {
		t.Run(name, func(t *testing.T) {
			a := &able{SinkSender: sinks.AsSink(sinks.AsSender(new(sinktest.Memory).Open()))}
			var outer, inner []told
			s := sinks.Wrap(a, record(&outer), record(&inner))
			defer s.Close()
			late, ok := s.(sinks.LateLoader)
			if !ok {
				t.Fatal("it does not load late behind a stage that records")
			}
			d := sinktest.NewDelivery("orders.created", "")
			loaded := *d.Message
			loaded.Payload, loaded.Headers = []byte("large"), []byte(headers)
			d.Load = func(context.Context) (*sinks.Message, func(), error) {
				return &loaded, func() { loaded.Headers = nil }, nil
			}
			ended := make(chan error, 1)
			late.Send(t.Context(), d, func(outcome error) { ended <- outcome })
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			want := headers
			if name != "headers" {
				want = ""
			}
			for _, seen := range [][]told{outer, inner} {
				if len(seen) != 1 || string(seen[0].Headers) != want || len(seen[0].Payload) != 0 || seen[0].MessageID != d.MessageID {
					t.Errorf("told %+v", seen)
				}
			}
		})
	}
	a := &able{SinkSender: sinks.AsSink(sinks.AsSender(new(sinktest.Memory).Open()))}
	s := sinks.Wrap(a, pass)
	defer s.Close()
	if _, ok := s.(sinks.LateLoader); ok {
		t.Error("a stage that has to see messages would see none")
	}
}
