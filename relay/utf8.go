package relay

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/postrider/postrider/sinks"
)

// checkedSink refuses messages that hold text which is not UTF-8, as a database in SQL_ASCII may. In any other, PostgreSQL converts
// what it sends.
type checkedSink struct{ sinks.Sink }

// Deliver hands on what can be delivered.
func (s checkedSink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	good := make([]sinks.Delivery, 0, len(batch))
	places := make([]int, 0, len(batch))
	for i, d := range batch {
		if outcomes[i] = checkText(d.Message); outcomes[i] == nil {
			good, places = append(good, d), append(places, i)
		}
	}
	if len(good) == 0 {
		return
	}
	results := make([]error, len(good))
	s.Sink.Deliver(ctx, good, results)
	for i, place := range places {
		outcomes[place] = results[i]
	}
}

func checkText(m *sinks.Message) error {
	what := ""
	switch {
	case m.JSON && !utf8.Valid(m.Payload):
		what = "payload"
	case !utf8.Valid(m.Headers):
		what = "headers"
	case !utf8.ValidString(m.Key):
		what = "key"
	default:
		return nil
	}
	return sinks.Permanent(errors.New("the " + what + ": not UTF-8, and the database, which is in SQL_ASCII, does not say what it is"))
}
