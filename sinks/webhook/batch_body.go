package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/postrider/postrider/sinks"
)

// item is one event of a batch.
type item struct {
	index int // in the batch that Deliver was given
	id    string
	event []byte
	alone bool
}

// deliverEvents sends a batch in the formats batch and ndjson, in as few requests as BatchBytes allows.
func (s *Sink) deliverEvents(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	groups := split(s.items(batch, outcomes), s.options.BatchBytes)
	for i, group := range groups {
		down := s.postItems(ctx, batch[0].Subscription, group, outcomes)
		if down == nil {
			continue
		}
		for _, rest := range groups[i+1:] {
			share(down, rest, outcomes)
		}
		return
	}
}

// items encodes the messages. One that cannot be encoded is settled by that.
func (s *Sink) items(batch []sinks.Delivery, outcomes []error) []item {
	items := make([]item, 0, len(batch))
	for i := range batch {
		d := &batch[i]
		own, err := s.ownHeaders(d)
		if err == nil {
			var event []byte
			if event, err = s.event(d, own); err == nil {
				items = append(items, item{i, d.MessageID, event, d.Attempt > 1})
				continue
			}
		}
		outcomes[i] = sinks.Permanent(err)
	}
	return items
}

// split forms groups whose bodies have at most that many bytes, if an event alone does not have more. An event that has
// failed before goes alone: perhaps it was the one for which its batch failed.
func split(items []item, bound int) [][]item {
	var groups [][]item
	var group []item
	size := 2 // [ and ]
	for _, it := range items {
		if it.alone {
			groups = append(groups, []item{it})
			continue
		}
		if n := len(it.event) + 1; len(group) > 0 && size+n > bound {
			groups = append(groups, group)
			group, size = nil, 2
		}
		group, size = append(group, it), size+len(it.event)+1
	}
	if len(group) > 0 {
		groups = append(groups, group)
	}
	return groups
}

// postItems sends one group and sets its outcomes. If the receiver refuses it for good, as too large or malformed, and
// does not say which event is at fault, its halves are sent, until the ones at fault are alone. An outcome that stands
// for the destination as a whole is returned as well.
func (s *Sink) postItems(ctx context.Context, subscription string, group []item, outcomes []error) (down error) {
	r := s.batchRequest(subscription, group)
	err := s.post(ctx, r)
	results := r.results
	s.free(r)
	kind, _ := sinks.Classify(err)
	switch {
	case kind == sinks.KindPermanent && len(group) > 1:
		half := len(group) / 2
		if down := s.postItems(ctx, subscription, group[:half], outcomes); down != nil {
			share(down, group[half:], outcomes)
			return down
		}
		return s.postItems(ctx, subscription, group[half:], outcomes)
	case err != nil:
		share(err, group, outcomes)
		return ifDown(err)
	}
	for _, it := range group {
		err := results[it.id]
		outcomes[it.index] = err
		if ifDown(err) != nil {
			down = err
		}
	}
	return down
}

func share(err error, group []item, outcomes []error) {
	for _, it := range group {
		outcomes[it.index] = err
	}
}

// ifDown returns the outcomes after which nothing more should be sent.
func ifDown(err error) error {
	if kind, _ := sinks.Classify(err); kind.Unavailable() || kind == sinks.KindGone {
		return err
	}
	return nil
}

// batchRequest puts events into one request. Its id is made of theirs: the same events have the same one.
func (s *Sink) batchRequest(subscription string, group []item) *request {
	size := 2
	for _, it := range group {
		size += len(it.event) + 1
	}
	body := make([]byte, 0, size)
	sum := sha256.New()
	lines := s.options.Format == FormatNDJSON
	for i, it := range group {
		sum.Write([]byte(it.id))
		sum.Write([]byte{'\n'})
		switch {
		case lines:
			body = append(append(body, it.event...), '\n')
			continue
		case i == 0:
			body = append(body, '[')
		default:
			body = append(body, ',')
		}
		body = append(body, it.event...)
	}
	contentType := linesType
	if !lines {
		body, contentType = append(body, ']'), batchType
	}
	r := s.newRequest()
	r.id, r.body, r.batch = "batch_"+hex.EncodeToString(sum.Sum(nil)[:16]), body, true
	r.set("Content-Type", contentType)
	r.encodeField("Postrider-Subscription", subscription)
	return r
}
