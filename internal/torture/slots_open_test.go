package torture

import (
	"context"
	"testing"
	"time"
)

// A transaction is open for the whole run, before the relays come or after: everything else arrives meanwhile, cursors and
// segments go on, and its own messages arrive when it commits.
func TestOpenAllAlong(t *testing.T) {
	for name, c := range map[string]struct {
		follow string
		first  bool // it was there before the relays
	}{"stream": {"stream", false}, "before the stream": {"stream", true}, "timer": {"timer", true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := stage{Config: Config{Follow: c.follow, Relays: 2}, prepare: emptiedSchema}.set(t)
			var old *oldTransaction
			if c.first {
				old = w.openOld(t)
			}
			w.play(t)
			before := w.measured(t)
			if !c.first {
				w.awaitStream(t)
				old = w.openOld(t)
			}
			w.apps.start(context.WithoutCancel(t.Context()), kinds(w.Follow, false), 2)
			t.Cleanup(w.apps.stop)
			w.say("a transaction is open; waiting until segments have been emptied")
			w.awaitEmptied(t, 2)
			w.say("they have been; waiting until all but the old transaction has arrived")
			w.apps.stop()
			w.awaitAll(t, time.Minute)
			w.nothing(t, "bases that did not go past the old transaction",
				"SELECT subscription || ' ' || base::text FROM postrider.cursors WHERE pg_snapshot_xmax(base) <= $1::text::xid8", old.xid)
			old.commit(t, w)
			w.finish(t, before)
			w.checkEmptied(t)
		})
	}
}
