package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/destination"
	settings "github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// One round has all of them but RabbitMQ, whose faults take several seconds each, with all of their faults, and a relay that runs through: whatever
// comes again was without an answer.
func TestBrokers(t *testing.T) {
	t.Parallel()
	var names []string
	for _, f := range brokerFaults {
		if f.Hits != onRabbit {
			names = append(names, f.Name)
		}
	}
	r := round(t, Config{Follow: "stream", Relays: 1, NATSServers: 1, Faults: names, Duration: 8 * time.Second, Pause: 300 * time.Millisecond})
	for _, name := range r.Destinations {
		if !slices.ContainsFunc(r.Deliveries, func(d DeliveryCount) bool { return d.Subscription == name && d.Expected > 0 }) {
			t.Errorf("%s got nothing", name)
		}
	}
	for _, what := range r.LeftOut {
		t.Skipf("NOT TESTED, %s", what)
	}
}

// What a destination holds is read, and judged: it is seen that a message is lost, that one of a key came before an earlier one, that one came again
// without a reason, and that something is there which nobody sent.
func TestBrokersAreJudged(t *testing.T) {
	for _, k := range brokerKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s := newJudged(t, k)
			s.send(1, 2, 3, 4)
			s.wants("nothing is wrong", Incident{})
			wrong, excused := []string{"repeated: message 0.2"}, []string(nil)
			if k.once {
				s.send(2)
				s.wants("one was sent again, and is there once", Incident{})
				s.wire[2] = "" // another id
				wrong = append(wrong, "message 0.2 came as")
				excused = wrong
			}
			s.send(2)
			s.wants("one came again", Incident{}, wrong...)
			s.wants("one came again, which is explained", Incident{From: time.Now().Add(-time.Minute), To: time.Now(), Repeats: []string{k.name}}, excused...)
			s.wants("one came again, which is explained for another", Incident{From: time.Now().Add(-time.Minute), To: time.Now(), Repeats: []string{"other"}}, wrong...)
			s.committed(5, 6, 7)
			s.send(6, 5)
			if !k.unordered {
				wrong = append(wrong, "out of order: message 0.6")
			}
			s.wants("one came too early, one is lost", Incident{}, append(slices.Clone(wrong), "lost: message 0.7")...)
			s.send(7)
			s.deliver(`{"pad": "of a stranger"}`)
			s.wants("a stranger is there", Incident{}, append(slices.Clone(wrong), "no id in")...)
		})
	}
}

// judged is a broker beside a test that plays the relay.
type judged struct {
	t      *testing.T
	is     Expectation
	book   *book
	broker broker
	sink   sinks.Sink
	truth  *truth
	wire   map[int64]string
}

func newJudged(t *testing.T, k *brokerKind) *judged {
	program, err := k.find()
	if err != nil {
		t.Skipf("NOT TESTED, %s: %v", k.name, err)
	}
	s := &judged{t: t, is: k.expects(), book: newBook(), truth: &truth{messages: map[int64]Message{}, ended: map[int64]time.Time{}}, wire: map[int64]string{}}
	w := &world{dir: t.TempDir()}
	w.Log = t.Output()
	if s.broker, err = k.start(program, w, s.book); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.broker.stop(); err != nil {
			t.Error(err)
		}
	})
	s.is.Matches = func(Message) bool { return true }
	url, options := s.broker.sink(s.broker.addr())
	s.sink, err = destination.Open(sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})(t.Context(), settings.Subscription{Name: k.name, Sink: url, Settings: settings.Settings{Options: json.RawMessage(options)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.sink.Close(); err != nil {
			t.Error(err)
		}
	})
	s.committed(1, 2, 3, 4)
	return s
}

// committed has messages of one key be due.
func (s *judged) committed(ids ...int64) {
	for _, id := range ids {
		s.truth.messages[id], s.truth.ended[id] = Message{ID: id, Topic: "orders.created", Key: "k", Order: id}, time.Now()
	}
}

// send delivers messages as a relay does, one after the other.
func (s *judged) send(ids ...int64) {
	s.t.Helper()
	for _, id := range ids {
		s.wire[id] = s.deliver(s.truth.messages[id].payload(), s.wire[id])
	}
}

// deliver delivers a payload under a message id, or a new one, until it is accepted, and returns that.
func (s *judged) deliver(payload string, wire ...string) string {
	s.t.Helper()
	d := sinktest.NewDelivery("orders.created", payload)
	d.Key = "k"
	if len(wire) > 0 && wire[0] != "" {
		d.MessageID = wire[0]
	}
	eventually(s.t, time.Minute, func() error { return sinktest.Deliver(s.t.Context(), s.sink, d)[0] })
	return d.MessageID
}

// wants fails the test unless what the broker holds breaks these promises and no other.
func (s *judged) wants(what string, explained Incident, want ...string) {
	s.t.Helper()
	var got []string
	err := poll(s.t.Context(), time.Minute, func() error {
		if err := s.broker.catchUp(s.t.Context()); err != nil {
			return err
		}
		e := &evidence{truth: s.truth, incidents: []Incident{explained}}
		got = append(e.judge(s.is, s.book.all()).violations, s.book.oddities()...)
		if len(got) != len(want) {
			return fmt.Errorf("%s: %q, want %q", what, got, want)
		}
		return nil
	})
	for _, one := range want {
		if err == nil && !slices.ContainsFunc(got, func(v string) bool { return strings.Contains(v, one) }) {
			err = fmt.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Which destinations a round has depends on its seed alone; those that are named, or whose faults are, it has.
func TestDestinationsAreDrawn(t *testing.T) {
	times := map[string]int{}
	for seed := range uint64(200) {
		one, again := Config{Seed: seed}, Config{Seed: seed}
		one.draw()
		again.draw()
		if !slices.Equal(one.Destinations, again.Destinations) || len(one.Destinations) != min(brokersAtOnce, len(brokerKinds)) {
			t.Fatalf("seed %d: %q, and then %q", seed, one.Destinations, again.Destinations)
		}
		for _, name := range one.Destinations {
			times[name]++
		}
	}
	if len(times) != len(brokerKinds) {
		t.Errorf("drawn were %v, want each of %q", times, Destinations())
	}
	for _, k := range brokerKinds {
		named, hit := Config{Destinations: []string{k.name}}, Config{Faults: []string{"kill", k.faults[0].Name}}
		named.draw()
		hit.draw()
		if want := []string{k.name}; !slices.Equal(named.Destinations, want) || !slices.Equal(hit.Destinations, want) {
			t.Errorf("%q, %q, want %q", named.Destinations, hit.Destinations, want)
		}
	}
	none := Config{Faults: []string{"kill"}}
	if none.draw(); len(none.Destinations) != 0 {
		t.Errorf("kill alone: %q", none.Destinations)
	}
	bad := Config{Duration: time.Minute, Destinations: []string{"radish"}}
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), `destination "radish": must be one of redis`) {
		t.Errorf("an unknown destination: %v", err)
	}
}

// A destination that this machine has not is left out with its faults, and the report says so.
func TestMissingBrokerIsLeftOutLoudly(t *testing.T) {
	nowhere := &brokerKind{name: "nowhere", hits: onRedis, find: func() (string, error) { return "", errors.New("`apt-get install nowhere` installs it") },
		faults: []*Fault{{Name: "nowhere-kill"}}}
	faults := faultsOf([]*brokerKind{nowhere})
	var log bytes.Buffer
	w := &world{Config: Config{Destinations: []string{"nowhere"}, Log: &log}}
	if !faults[0].Possible(&w.Config) {
		t.Error("its fault needs more than that the round is to have it")
	}
	if err := w.startBrokersOf([]*brokerKind{nowhere}); err != nil {
		t.Fatal(err)
	}
	if len(w.Destinations) != 0 || len(w.subs) != 0 || faults[0].Possible(&w.Config) {
		t.Errorf("the round has %q, %d subscriptions", w.Destinations, len(w.subs))
	}
	report := Report{Config: w.Config, LeftOut: w.brokers.leftOut}
	if err := report.Write(&log); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"LEFT OUT, nowhere: `apt-get", "LEFT OUT, AND NOT TESTED: nowhere: `apt-get install nowhere` installs it."} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in:\n%s", want, log.String())
		}
	}
	var sum total
	sum.add(&Report{Config: Config{Destinations: []string{"redis"}}})
	sum.add(&Report{Config: Config{Destinations: []string{"redis"}}, LeftOut: report.LeftOut})
	for _, want := range []string{"with redis 2", "LEFT OUT, AND NOT TESTED: nowhere"} {
		if !strings.Contains(sum.String(), want) {
			t.Errorf("the sum is %q, want %q in it", sum, want)
		}
	}
}
