package relay

import (
	"errors"
	"fmt"
	"testing"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// Bad messages at the head of the log, more than a runner has in memory at first, some of them with good ones of their keys behind:
// the good ones pass, the bad ones are dead after their attempts, whatever the destination says to them.
func TestManyBadMessages(t *testing.T) {
	for name, outcome := range map[string]error{
		"this message failed": errScene,
		"destination is down": sinks.Unavailable(errors.New("status 502"), 0),
	} {
		for _, c := range []struct {
			bad, keys int
			lanes     string
			ordering  string
		}{{2, 0, "16", "key"}, {100, 0, "4", "none"}, {20, 20, "4", "key"}, {3, 0, "1", "strict"}} {
			t.Run(fmt.Sprintf("%s/%d bad, %d keys, %s lanes, %s", name, c.bad, c.keys, c.lanes, c.ordering), func(t *testing.T) {
				s := newScene(t)
				a := s.cast("sub", "{>}", `{"backoff_initial": "10ms", "backoff_max": "20ms", "max_attempts": 3, "batch": 1, "lanes": `+c.lanes+
					`, "ordering": "`+c.ordering+`"}`)
				a.plays(failing("bad", 1_000_000, outcome))
				bad := s.bulk("bad", c.bad, c.keys)
				good := s.bulk("good", 12, c.keys)
				s.play()
				eventuallyIn(t, 3*patience, "the good ones pass", func() bool { return len(a.missing(good)) == 0 })
				eventuallyIn(t, 6*patience, "the bad ones are dead", func() bool { return s.parkedIn("sub", states.Dead) == len(bad) })
				s.shows("sub", "dead", bad...)
				a.exactly(t, good)
			})
		}
	}
}
