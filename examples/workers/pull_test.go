package workers

import (
	"testing"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/worker/workertest"
)

// order is what the examples' payloads ask for.
type order struct {
	Fail    int     `json:"fail,omitempty"` // so many attempts
	Dead    string  `json:"dead,omitempty"`
	Steps   int     `json:"steps,omitempty"` // of a tenth of a second
	Seconds float64 `json:"seconds,omitempty"`
}

func TestPullWorkers(t *testing.T) {
	for _, command := range [][]string{{"python3", "python/pull_worker.py"}, {"node", "node/pull-worker.mjs"}} {
		t.Run(command[0], func(t *testing.T) {
			needs(t, command[0], command[1])
			server := workertest.NewServer(t)
			env := []string{"POSTRIDER_API=" + server.URL(), "SUBSCRIPTION=mail", "NAME=example", "BEAT=0.1", "CONCURRENCY=2", "DRAIN=0.3"}
			add := func(o order) int64 { return server.Add("mail", outbox.Message{Topic: "mail.sent", Payload: o}) }
			p := start(t, command, env...)

			server.Await(t, add(order{}), "done")
			if got := server.Await(t, add(order{Fail: 1}), "done"); got.Attempts != 2 {
				t.Errorf("%+v, want two attempts", got)
			}
			if got := server.Await(t, add(order{Dead: "no such address"}), "dead"); got.Attempts != 1 || got.Reason != "no such address" {
				t.Errorf("%+v, want a dead letter", got)
			}
			if got := server.Await(t, add(order{Steps: 4}), "done"); got.Percent == 0 || got.Note == "" {
				t.Errorf("%+v, want progress", got)
			}
			cancelled := add(order{Steps: 10_000})
			server.Await(t, cancelled, "out")
			server.Cancel(cancelled)
			server.Await(t, cancelled, "cancelled")

			// Killed in the middle of as many jobs as it does at once, so that it does not ask for more; the relay gives them to the next worker.
			killed := []int64{add(order{Steps: 20}), add(order{Steps: 20})}
			for _, id := range killed {
				server.Await(t, id, "out")
			}
			p.kill(t)
			for _, id := range killed {
				server.Lose(id)
			}
			p = start(t, command, env...)
			for _, id := range killed {
				if got := server.Await(t, id, "done"); got.Attempts != 2 {
					t.Errorf("%+v, want two attempts", got)
				}
			}

			// A stop gives back what does not end in time, without an attempt.
			id := add(order{Steps: 10_000})
			server.Await(t, id, "out")
			p.terminate(t)
			if got := server.Await(t, id, "pending"); got.Attempts != 0 || got.Released == 0 {
				t.Errorf("%+v, want that it is given back", got)
			}
		})
	}
}
