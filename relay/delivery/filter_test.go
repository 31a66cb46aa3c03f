package delivery

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

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
		c := store.Cursor{Sub: subscription.Subscription{Topics: strings.Split(topics, "\n")}, Earlier: earlier, Position: snapshot.Position{Base: snap}}
		got, err := NewFilter(c)
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
