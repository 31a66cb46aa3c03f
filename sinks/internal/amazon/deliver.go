package amazon

import (
	"context"
	"errors"
	"strconv"

	"github.com/postrider/postrider/sinks"
)

// MostEntries is how many messages one request takes.
const MostEntries = 10

// Entry is a message in a request.
type Entry struct {
	ID string
	*Message
	at int // in the batch
}

// Send sends entries in one request. It returns what came of each that the answer speaks of, by ID, nil for success; or an error, which Outcome reads.
type Send func(ctx context.Context, entries []Entry) (map[string]error, error)

// Deliver renders a batch, sends it, and sets outcomes.
func (o *Options) Deliver(ctx context.Context, fifo bool, batch []sinks.Delivery, outcomes []error, send Send) {
	var entries []Entry
	for i := range batch {
		m, err := o.Render(&batch[i], fifo)
		if err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		entries = append(entries, Entry{ID: strconv.Itoa(i), Message: m, at: i})
	}
	for len(entries) > 0 {
		n := o.fit(entries)
		deliver(ctx, entries[:n], outcomes, send)
		entries = entries[n:]
	}
}

// fit is how many of the entries go into one request.
func (o *Options) fit(entries []Entry) int {
	size := 0
	for n := range entries {
		size += entries[n].Size
		if n == MostEntries || size > o.MaxMessageBytes && n > 0 {
			return n
		}
	}
	return len(entries)
}

// errSilent is that an answer does not speak of a message.
var errSilent = errors.New("the answer says nothing of it")

func deliver(ctx context.Context, entries []Entry, outcomes []error, send Send) {
	results, err := send(ctx, entries)
	if err != nil && refuses(err) && len(entries) > 1 { // one of them is to blame
		for i := range entries {
			deliver(ctx, entries[i:i+1], outcomes, send)
		}
		return
	}
	if err != nil {
		err = Outcome(err)
	}
	for _, e := range entries {
		result, spoken := results[e.ID]
		switch {
		case err != nil:
			outcomes[e.at] = err
		case !spoken:
			outcomes[e.at] = sinks.Retryable(errSilent, 0)
		default:
			outcomes[e.at] = result
		}
	}
}
