package delivery

import (
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// standstill says why deliveries stand still, "" if they do not.
func (r *Runner) standstill(now time.Time) string {
	parked := &r.retries.parked.blocked
	switch {
	case r.breaker.open && r.breaker.misconfigured:
		return states.Misconfigured + r.breaker.reason
	case r.breaker.open:
		return states.Down + r.breaker.reason
	case parked.full():
		if key, _ := parked.hot(); key != "" {
			return fmt.Sprintf("intake stopped: max_parked messages wait for a retry or a callback, most of them for key %q", Shorten(key))
		}
		return "intake stopped: max_parked messages wait for a retry or a callback"
	case !parked.bears(parked.most) && r.takesNothing():
		return fmt.Sprintf("intake stopped: behind key %q so many messages wait that they leave no room for others", Shorten(parked.most))
	case r.scheduledStop():
		return "intake stopped: max_scheduled messages wait for their time, and the next one is another"
	case r.limits.heldUpBy(now) != "" && r.takesNothing():
		return fmt.Sprintf("intake stopped: limited by %s %q, of which so many wait that they leave no room for others", r.limits.by(), Shorten(r.limits.crowd))
	}
	return r.troubleOfSink(now)
}

// sinkTrouble is what a sink that may know has said of what waits.
type sinkTrouble struct {
	text  string
	again time.Time // when to ask it
}

func (r *Runner) troubleOfSink(now time.Time) string {
	of, ok := sinks.As[sinks.Troubled](r.Env.Sink)
	if s := &r.report.sink; ok && !now.Before(s.again) {
		var wait time.Duration
		s.text, wait = of.Trouble()
		s.again = now.Add(wait)
	}
	return r.report.sink.text
}

// takesNothing says whether something must be settled before more is taken in: there is no room, or what a pass has read is to end first.
func (r *Runner) takesNothing() bool {
	return r.someFull() || slices.ContainsFunc(r.intakes, (*intake).awaitsRest)
}

// describeTrouble keeps the reason why deliveries stand still, for the cursor's row.
func (r *Runner) describeTrouble(now time.Time) {
	trouble := r.standstill(now)
	described := trouble
	if ours := r.Env.Health.Trouble(r.Env.Sub.Name); ours != "" {
		described = ours // which is in the log already
	}
	if d := r.breaker.destination(); d != r.report.destination {
		r.report.destination, r.intakes[0].dirty = d, true
	}
	if described != r.report.describing {
		r.report.describing = described
		for _, in := range r.intakes {
			in.dirty = true
		}
	}
	if trouble == r.report.trouble {
		return
	}
	r.report.trouble = trouble
	r.report.troubles.tell(r.Env.Log, r.Env.Sub.Name, trouble, now)
	down, misconfigured, stopped := 0.0, 0.0, 0.0
	switch {
	case r.breaker.open && r.breaker.misconfigured:
		down, misconfigured = 1, 1
	case r.breaker.open:
		down = 1
	case trouble != "":
		stopped = 1
	}
	r.Env.Metrics.Down.Set(down)
	r.Env.Metrics.Misconfigured.Set(misconfigured)
	r.Env.Metrics.Stopped.Set(stopped)
}
