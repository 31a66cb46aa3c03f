package delivery

import (
	"fmt"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/sinks"
)

// outgoing is the message that is delivered for one of the outbox: itself, or what the subscription makes of it. It may be called by several
// goroutines at once.
func (r *Runner) outgoing(row *message.Row) (*sinks.Message, error) {
	if r.transform == nil {
		return &row.Message, nil
	}
	made, cost, err := r.transform.Of(&row.Message, &row.Memo)
	r.count(cost)
	if err != nil {
		return nil, &judgedError{unfit: fmt.Errorf("transform.%w", err)}
	}
	return made, nil
}

// deliver hands a lane's batch to the sink, but for what cannot be transformed.
func (r *Runner) deliver(l *lane) {
	if r.transform == nil {
		r.Env.Sink.Deliver(r.Life.deliver, l.deliveries, l.outcomes)
		return
	}
	passed, places := make([]sinks.Delivery, 0, len(l.batch)), make([]int, 0, len(l.batch))
	for i, t := range l.batch {
		d := l.deliveries[i]
		if d.Message, l.outcomes[i] = r.outgoing(t.row); l.outcomes[i] == nil {
			passed, places = append(passed, d), append(places, i)
		}
	}
	if len(passed) == 0 {
		return
	}
	outcomes := make([]error, len(passed))
	r.Env.Sink.Deliver(r.Life.deliver, passed, outcomes)
	for i, place := range places {
		l.outcomes[place] = outcomes[i]
	}
}
