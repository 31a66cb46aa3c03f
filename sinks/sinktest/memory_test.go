package sinktest_test

import (
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func harness(m *sinktest.Memory, open func() sinks.Sink) *sinktest.Harness {
	return &sinktest.Harness{
		Open: func(testing.TB) sinks.Sink { return open() }, Received: m.Received, Down: m.Down, Hang: m.Hang, Up: m.Up, Hold: m.Hold,
	}
}

func TestMemoryConforms(t *testing.T) {
	sinktest.RunSender(t, func(*testing.T) *sinktest.Harness {
		m := new(sinktest.Memory)
		return harness(m, func() sinks.Sink { return m.Open() })
	})
}

// onlySink hides that a sink is a Sender.
type onlySink struct{ sinks.Sink }

// A sink that ends one by one, seen as a sink, and that one as a Sender again, still keeps all promises.
func TestAdaptersConform(t *testing.T) {
	sinktest.RunSender(t, func(*testing.T) *sinktest.Harness {
		m := new(sinktest.Memory)
		return harness(m, func() sinks.Sink { return onlySink{m.Open()} })
	})
}

// pass is a stage that does everything that a stage may, and changes nothing.
var pass = sinks.Stage{
	Before: func(d *sinks.Delivery) (bool, error) {
		copied := *d.Message
		d.Message = &copied
		return false, nil
	},
	After: func(_ *sinks.Delivery, outcome error) error { return outcome },
}

func TestWrappedConforms(t *testing.T) {
	for name, open := range map[string]func(*sinktest.Memory) sinks.Sink{
		"a Sender": func(m *sinktest.Memory) sinks.Sink { return sinks.Wrap(m.Open(), pass, pass) },
		"a Sink":   func(m *sinktest.Memory) sinks.Sink { return sinks.Wrap(onlySink{m.Open()}, pass, pass) },
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.RunSender(t, func(*testing.T) *sinktest.Harness {
				m := new(sinktest.Memory)
				return harness(m, func() sinks.Sink { return open(m) })
			})
		})
	}
}

// Stages see deliveries in order and outcomes in the opposite one; what one of them settles goes no further.
func TestWrap(t *testing.T) {
	refusal := errors.New("no")
	for name, deliver := range map[string]func(sinks.Sink, ...sinks.Delivery) []error{
		"batch": func(s sinks.Sink, batch ...sinks.Delivery) []error {
			return sinktest.Deliver(t.Context(), onlySink{s}, batch...)
		},
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
			filtered := sinktest.NewDelivery("filtered", "{}")
			var mu sync.Mutex
			saw := map[string]error{}
			s := sinks.Wrap(m.Open(),
				sinks.Stage{After: func(d *sinks.Delivery, outcome error) error {
					mu.Lock()
					defer mu.Unlock()
					saw[d.MessageID] = outcome
					return outcome
				}},
				sinks.Stage{
					Before: func(d *sinks.Delivery) (bool, error) {
						changed := *d.Message
						changed.Payload = []byte(`"changed"`)
						d.Message = &changed
						return d.MessageID == filtered.MessageID, nil
					},
					After: func(_ *sinks.Delivery, outcome error) error {
						if outcome != nil {
							return sinks.Permanent(outcome)
						}
						return nil
					},
				})
			defer s.Close()
			refused, good := sinktest.NewDelivery("refused", "{}"), sinktest.NewDelivery("good", "{}")
			sinktest.WantKinds(t, deliver(s, filtered, refused, good), sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted)
			if got := m.Received(); len(got) != 1 || got[0].MessageID != good.MessageID || string(got[0].Payload) != `"changed"` || string(good.Payload) != "{}" {
				t.Errorf("received %+v, want the good one alone, as it was changed", got)
			}
			if kind, _ := sinks.Classify(saw[refused.MessageID]); len(saw) != 3 || kind != sinks.KindPermanent || !errors.Is(saw[refused.MessageID], refusal) {
				t.Errorf("the outer stage saw %v", saw)
			}
		})
	}
}
