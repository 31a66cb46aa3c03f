package relay

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
)

// FuzzParseSettings: what is read from the settings column is valid, and is read as the same again; else the error says so.
func FuzzParseSettings(f *testing.F) {
	for _, text := range []string{`{}`, `{"ordering":"strict","on_dead":"hold","max_attempts":3,"lanes":2,"batch":1}`, `{"timeout":"1m30s"}`, `{"timeout":5}`,
		`{"backoff_initial":"2h"}`, `{"backoff_initial":"1h","backoff_max":"1m"}`, `{"lanes":-1}`, `{"x":1}`, ``, `null`, `[]`, `{"max_parked":1e3}`,
		`{"timeout":"-1s"}`, `{"backoff_max":"2562047h47m16.854775807s"}`, `{} {}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := subscription.ParseSettings(text)
		if err != nil {
			return
		}
		again := s.WithDefaults()
		if err := again.Validate(); err != nil || !again.Equal(s) {
			t.Fatalf("%s is %+v, then %+v, %v", text, s, again, err)
		}
		if s.Timeout < 0 || s.BackoffInitial < 0 || s.BackoffMax < s.BackoffInitial || s.MaxAttempts < 1 || s.MaxParked < 1 || s.Lanes < 0 || s.Batch < 0 {
			t.Fatalf("%s is %+v", text, s)
		}
		written, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := subscription.ParseSettings(written); err != nil || !back.Equal(s) {
			t.Fatalf("%s is %+v, written as %s, that is %+v, %v", text, s, written, back, err)
		}
		for attempts := range 70 {
			if d := subscription.RetryDelay(attempts, time.Duration(s.BackoffInitial), time.Duration(s.BackoffMax)); d < 0 {
				t.Fatalf("%s waits %s after %d attempts", text, d, attempts)
			}
		}
	})
}

// FuzzFilter: the topics and the earlier topics of a cursor make a filter, or an error.
func FuzzFilter(f *testing.F) {
	f.Add("a.*\nb.>", []byte(`[{"topics":["c"],"until":"5:7:6"}]`), "3:3:", "a.b", uint64(6))
	f.Add(">", []byte(`[]`), "5:7:6", "x", uint64(9))
	f.Add("a", []byte(`[{"topics":[],"until":""}]`), "3:3:", "a", uint64(1))
	f.Add("a", []byte(`{`), "3:3:", "a", uint64(1))
	f.Fuzz(func(t *testing.T, topics string, earlier []byte, base, topic string, xid uint64) {
		snap, err := snapshot.Parse(base)
		if err != nil {
			return
		}
		c := cursor{sub: subscription.Subscription{Topics: strings.Split(topics, "\n")}, earlier: earlier, saved: snapshot.Position{Base: snap}}
		got, err := newFilter(c)
		if err != nil {
			return
		}
		r := &message.Row{XID: xid}
		r.Topic = topic
		if len(got.earlier) == 0 && got.wants(r) != got.current.Match(topic) {
			t.Errorf("%q wants %q: %t", topics, topic, got.wants(r))
		}
		for _, e := range got.earlier {
			if snap.Covers(e.until) {
				t.Errorf("topics until %s are kept beyond the base %s", e.until, snap)
			}
		}
	})
}
