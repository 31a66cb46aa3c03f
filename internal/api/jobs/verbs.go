package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/pull"
)

// turn is how long a call that waits for jobs of several relays waits at one of them before it asks the next.
const turn = 250 * time.Millisecond

func (h *Handler) take(w http.ResponseWriter, r *http.Request) error {
	var q takeRequest
	hop, err := h.read(w, r, func(body []byte) error { return decode(body, &q) })
	if err != nil {
		return err
	}
	if err := q.caller.enter(r, hop, q.takePart.names); err != nil {
		return err
	}
	b, err := h.takeJobs(w, r, &q, hop)
	if err != nil {
		return err
	}
	respond(w, begins, b, ends)
	return nil
}

// takeJobs returns the member jobs.
func (h *Handler) takeJobs(w http.ResponseWriter, r *http.Request, q *takeRequest, hop bool) ([]byte, error) {
	by, err := q.caller.caller()
	if err != nil {
		return nil, err
	}
	if _, err := q.wants(); err != nil {
		return nil, err
	}
	wait := time.Duration(q.Wait)
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + time.Minute)) // a connection that waits does not hang
	for until := time.Now().Add(wait); ; {
		parts, trouble, err := h.partsOf(r.Context(), q, hop)
		if err != nil {
			return nil, err
		}
		b, asked, err := h.takeParts(r.Context(), by, q, parts, until)
		if b != nil || err != nil && !passes(err) {
			return b, err
		}
		if trouble = cmp.Or(trouble, err); !asked || time.Now().After(until) {
			return []byte(`"jobs":[]`), trouble
		}
	}
}

// takeParts asks one relay after the other, and says whether any has answered. One that cannot be asked keeps nobody from what others have.
func (h *Handler) takeParts(ctx context.Context, by pull.Caller, q *takeRequest, parts []part[want], until time.Time) (b []byte, asked bool, trouble error) {
	for _, one := range parts {
		left := max(time.Until(until), 0)
		if len(parts) > 1 || !h.stays(one) {
			left = min(left, turn)
		}
		b, some, err := h.takePart(ctx, by, q, one, left)
		if some {
			return b, true, err
		}
		if err != nil && !passes(err) || ctx.Err() != nil {
			return nil, false, err
		}
		asked, trouble = asked || err == nil, cmp.Or(trouble, err)
	}
	return nil, asked, trouble
}

// partsOf finds whom to ask, and why some of it cannot be asked for now.
func (h *Handler) partsOf(ctx context.Context, q *takeRequest, hop bool) (parts []part[want], trouble, err error) {
	var names []string
	for _, f := range q.From {
		names = append(names, f.Subscription)
	}
	p, err := h.look(ctx, hop, names...)
	if err != nil {
		return nil, nil, err
	}
	return split(p, q.From, func(f want) string { return f.Subscription })
}

// stays says whether it is worth waiting there: what nobody delivers now may come to another relay.
func (h *Handler) stays(one part[want]) bool {
	for _, f := range one.items {
		if one.at == nil && !h.hub.Has(f.Subscription) {
			return false
		}
	}
	return true
}

// takePart asks one relay, and says whether it had something.
func (h *Handler) takePart(ctx context.Context, by pull.Caller, q *takeRequest, one part[want], wait time.Duration) (b []byte, some bool, err error) {
	if one.at == nil {
		part := takePart{From: one.items}
		wants, _ := part.wants() // checked
		list, err := h.hub.Take(ctx, by, wants, wait)
		if ctx.Err() != nil {
			return nil, false, problem.New(http.StatusServiceUnavailable, "gone", "the caller is gone, or the relay stops")
		}
		for _, j := range list {
			if j.Free != nil {
				context.AfterFunc(ctx, j.Free) // it has been answered with
			}
		}
		return membersOf(list), len(list) > 0, err
	}
	own := takeRequest{q.caller, takePart{one.items, sinks.Duration(wait)}}
	got, err := one.at.ask(ctx, "take", own, wait)
	if err != nil {
		return nil, false, err
	}
	list, err := json.Marshal(got.Jobs)
	if len(got.Jobs) == 0 {
		list = []byte("[]")
	}
	return append([]byte(`"jobs":`), list...), len(got.Jobs) > 0, err
}

func (h *Handler) settle(w http.ResponseWriter, r *http.Request) error {
	var q settleRequest
	hop, err := h.read(w, r, func(body []byte) error { return decode(body, &q) })
	if err != nil {
		return err
	}
	if err := q.caller.enter(r, hop, q.names); err != nil {
		return err
	}
	by, err := q.caller.caller()
	if err != nil {
		return err
	}
	if _, err := q.items(); err != nil {
		return err
	}
	if q.Take != nil {
		if _, err := q.Take.wants(); err != nil {
			return err
		}
	}
	answers, err := h.settleAll(r.Context(), by, &q, hop)
	if err != nil {
		return err
	}
	list := []byte(`"jobs":[]`)
	if q.Take != nil {
		next := takeRequest{caller{Worker: q.Worker, Incarnation: q.Incarnation}, *q.Take}
		if got, err := h.takeJobs(w, r, &next, hop); err == nil { // what was settled is answered in any case
			list = got
		}
	}
	respond(w, begins, answersTo(q.Items, answers), list, ends)
	return nil
}

// settleAll settles each item where its subscription is. What cannot be settled now is moving: another subscription's trouble is not theirs.
func (h *Handler) settleAll(ctx context.Context, by pull.Caller, q *settleRequest, hop bool) ([]pull.Answer, error) {
	var names []string
	for _, i := range q.Items {
		names = append(names, i.Subscription)
	}
	p, err := h.look(ctx, hop, names...)
	if err != nil {
		return nil, err
	}
	parts, trouble, err := split(p, q.Items, func(i item) string { return i.Subscription })
	if err != nil {
		return nil, err
	}
	answers := slices.Repeat([]pull.Answer{pull.Moving}, len(q.Items))
	errs := make([]error, len(parts))
	var all sync.WaitGroup
	for n, one := range parts {
		all.Go(func() { errs[n] = h.settlePart(ctx, by, q, one, answers) })
	}
	all.Wait()
	for _, err := range append(errs, trouble) {
		if err != nil && !passes(err) {
			return nil, err
		}
	}
	if q.Take == nil && len(answers) > 0 && !slices.ContainsFunc(answers, func(a pull.Answer) bool { return a != pull.Moving }) {
		return nil, cmp.Or(cmp.Or(errs...), trouble, error(moving(q.Items[0].Subscription)))
	}
	return answers, nil
}

// settlePart fills in the answers of one relay.
func (h *Handler) settlePart(ctx context.Context, by pull.Caller, q *settleRequest, one part[item], answers []pull.Answer) (err error) {
	own := settleRequest{caller: q.caller, Items: one.items}
	var got []pull.Answer
	if one.at == nil {
		items, _ := own.items() // checked
		got, err = h.hub.Settle(by, items)
	} else {
		got, err = one.at.settle(ctx, own)
	}
	if err != nil {
		return err
	}
	for i, at := range one.index {
		answers[at] = got[i]
	}
	return nil
}

// answered is what is said of an item.
type answered struct {
	Answer pull.Answer `json:"answer"`
}

func (p *peer) settle(ctx context.Context, q settleRequest) ([]pull.Answer, error) {
	got, err := p.ask(ctx, "settle", q, 0)
	if err != nil {
		return nil, err
	}
	if len(got.Items) != len(q.Items) {
		return nil, p.trouble("answers other items than it was asked about")
	}
	answers := make([]pull.Answer, len(got.Items))
	for i := range got.Items {
		answers[i] = got.Items[i].Answer
	}
	return answers, nil
}
