package mqttsink

import (
	"context"
	"fmt"

	"github.com/eclipse/paho.golang/packets"

	"github.com/postrider/postrider/sinks"
)

// Deliver implements sinks.Sink.
func (s *sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	places := make([]int, len(batch))
	for i := range places {
		places[i] = i
	}
	s.publish(ctx, batch, outcomes, places)
	var doubtful []int
	for i, err := range outcomes {
		if _, ok := err.(*doubt); ok {
			doubtful = append(doubtful, i)
		}
	}
	if len(doubtful) > 1 || len(doubtful) == 1 && outcomes[doubtful[0]].(*doubt).silent() {
		s.publishAlone(ctx, batch, outcomes, doubtful)
	}
	for i, err := range outcomes {
		if d, ok := err.(*doubt); ok {
			err = d.alone()
		}
		outcomes[i] = sinks.RedactOutcome(&s.wires.Secrets.Redactor, err)
	}
}

// doubt is why the broker ended a connection. It may be meant for any of the messages that had no answer there.
type doubt struct{ error }

// silent says that the broker gave no reason: some answer a message that they refuse, and then end the connection without a word to the others.
func (d *doubt) silent() bool {
	_, said := d.error.(*refusal)
	return !said
}

// alone is the outcome of the only message that had no answer.
func (d *doubt) alone() error {
	if r, ok := d.error.(*refusal); ok {
		return ofMessage(r)
	}
	return outcomeOf(d.error)
}

// publishAlone sends messages one by one, so that what is said of one is about that one. All of it has the time of a batch: what is left then waits.
func (s *sink) publishAlone(ctx context.Context, batch []sinks.Delivery, outcomes []error, places []int) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for n, i := range places {
		s.publishOne(ctx, batch, outcomes, places[n:n+1])
		if kind, _ := sinks.Classify(outcomes[i]); kind == sinks.KindUnavailable {
			fill(outcomes, places[n+1:], outcomes[i])
			return
		}
	}
}

// publishOne sends one message with nothing else on its way, once more if the connection ends without a word: the one before may have been meant.
func (s *sink) publishOne(ctx context.Context, batch []sinks.Delivery, outcomes []error, place []int) {
	i := place[0]
	for range 2 {
		outcomes[i] = nil
		s.publish(ctx, batch, outcomes, place)
		d, ok := outcomes[i].(*doubt)
		if !ok {
			return
		}
		if outcomes[i] = d.alone(); !d.silent() {
			return
		}
	}
}

func fill(outcomes []error, places []int, err error) {
	for _, i := range places {
		outcomes[i] = err
	}
}

// publish sends messages and waits for the answers. What the broker may have ended the connection for is in doubt.
func (s *sink) publish(ctx context.Context, batch []sinks.Delivery, outcomes []error, places []int) {
	if len(places) == 0 {
		return
	}
	if err := ctx.Err(); err != nil {
		fill(outcomes, places, outcomeOf(err))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	l, err := s.shared.Ready(ctx)
	if err != nil {
		fill(outcomes, places, outcomeOf(err))
		return
	}
	sent := s.send(ctx, l, batch, outcomes, places)
	late := false
	for _, w := range sent {
		select {
		case <-w.answered:
		case <-ctx.Done():
			select {
			case <-w.answered: // both
			default:
				outcomes[w.place], late = outcomeOf(fmt.Errorf("no answer in time: %w", ctx.Err())), true
				continue
			}
		}
		outcomes[w.place] = s.outcome(l, w)
	}
	if late {
		l.wire.Reset()
	}
}

// send writes messages.
func (s *sink) send(ctx context.Context, l *link, batch []sinks.Delivery, outcomes []error, places []int) (sent []*waiting) {
	defer context.AfterFunc(ctx, l.wire.Reset)() // a write waits for as long as the broker reads nothing
	for n, i := range places {
		p, err := s.packet(&batch[i], l.limits.packet)
		if err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		w, err := l.publish(ctx, i, p)
		if err != nil {
			if l.Gone() {
				err = l.ended()
			}
			fill(outcomes, places[n:], outcomeOf(err)) // nothing of these was sent
			break
		}
		sent = append(sent, w)
	}
	l.flush()
	return sent
}

// outcome makes one of an answer, or of the lack of one.
func (s *sink) outcome(l *link, w *waiting) error {
	if w.answer == nil {
		<-l.done
		return outcomeOf(l.ended())
	}
	switch code := w.answer.ReasonCode; {
	case code == packets.PubackNoMatchingSubscribers && s.Unmatched != "drop" && !s.Retain:
		return sinks.Misconfigured(fmt.Errorf("nobody is subscribed to the topic name (0x10): subscribe, or set unmatched to drop"))
	case code < 0x80:
		return nil
	}
	return ofMessage(&refusal{w.answer.ReasonCode, reasonOf(w.answer.Properties), "the broker does not take the message"})
}
