package jobs

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/pull"
)

// turn is how long a call that waits for jobs of several relays waits at one of them before it asks the next.
const turn = 250 * time.Millisecond

func (h *Handler) take(w http.ResponseWriter, r *http.Request) error {
	var q takeRequest
	hop, err := h.read(w, r, &q)
	if err != nil {
		return err
	}
	b, err := h.takeJobs(w, r, &q, hop)
	if err != nil {
		return err
	}
	respond(w, append(append([]byte{'{'}, b...), `,"quiet":false}`...))
	return nil
}

// takeJobs returns the member jobs.
func (h *Handler) takeJobs(w http.ResponseWriter, r *http.Request, q *takeRequest, hop bool) ([]byte, error) {
	by, err := q.caller.caller()
	if err != nil {
		return nil, err
	}
	if _, _, err := q.wants(); err != nil {
		return nil, err
	}
	wait := time.Duration(q.Wait)
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + time.Minute)) // a connection that waits does not hang
	for until := time.Now().Add(wait); ; {
		p, parts, err := h.partsOf(r.Context(), q, hop)
		if err != nil {
			return nil, err
		}
		for _, one := range parts {
			left := max(time.Until(until), 0)
			if len(parts) > 1 || !h.stays(one) {
				left = min(left, turn)
			}
			b, some, err := h.takePart(r.Context(), p, by, q, one, left)
			if err != nil || some || time.Now().After(until) && one.at == parts[len(parts)-1].at {
				return b, err
			}
		}
	}
}

// partsOf finds whom to ask.
func (h *Handler) partsOf(ctx context.Context, q *takeRequest, hop bool) (*places, []part[want], error) {
	var names []string
	for _, f := range q.From {
		names = append(names, f.Subscription)
	}
	p, err := h.look(ctx, hop, names...)
	if err != nil {
		return nil, nil, err
	}
	parts, err := split(p, q.From, func(f want) string { return f.Subscription })
	return p, parts, err
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
func (h *Handler) takePart(ctx context.Context, p *places, by pull.Caller, q *takeRequest, one part[want], wait time.Duration) (b []byte, some bool, err error) {
	if one.at == nil {
		part := takePart{From: one.items}
		wants, _, _ := part.wants() // checked
		list, err := h.hub.Take(ctx, by, wants, wait)
		if ctx.Err() != nil {
			return nil, false, newProblem(http.StatusServiceUnavailable, "gone", "the caller is gone, or the relay stops")
		}
		for _, j := range list {
			if j.Free != nil {
				context.AfterFunc(ctx, j.Free) // it has been answered with
			}
		}
		return appendJobs(nil, list), len(list) > 0, err
	}
	own := takeRequest{caller{q.Worker, q.Incarnation, p.heldAt(q.Holding, one.at)}, takePart{one.items, sinks.Duration(wait)}}
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
	hop, err := h.read(w, r, &q)
	if err != nil {
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
		if _, _, err := q.Take.wants(); err != nil {
			return err
		}
	}
	answers, err := h.settleAll(r.Context(), by, &q, hop)
	if err != nil {
		return err
	}
	b := append(appendAnswers([]byte{'{'}, q.Items, answers), ',')
	list := []byte(`"jobs":[]`)
	if q.Take != nil {
		next := takeRequest{caller{Worker: q.Worker, Incarnation: q.Incarnation}, *q.Take}
		if got, err := h.takeJobs(w, r, &next, hop); err == nil { // what was settled is answered in any case
			list = got
		}
	}
	respond(w, append(append(b, list...), `,"quiet":false}`...))
	return nil
}

// settleAll settles each item where its subscription is.
func (h *Handler) settleAll(ctx context.Context, by pull.Caller, q *settleRequest, hop bool) ([]pull.Answer, error) {
	var names []string
	for _, i := range q.Items {
		names = append(names, i.Subscription)
	}
	p, err := h.look(ctx, hop, names...)
	if err != nil {
		return nil, err
	}
	parts, err := split(p, q.Items, func(i item) string { return i.Subscription })
	if err != nil {
		return nil, err
	}
	answers := make([]pull.Answer, len(q.Items))
	for _, one := range parts {
		own := settleRequest{caller: caller{q.Worker, q.Incarnation, q.Holding}, Items: one.items}
		var got []pull.Answer
		if one.at == nil {
			items, _ := own.items() // checked
			got, err = h.hub.Settle(by, items)
		} else {
			own.Holding = p.heldAt(q.Holding, one.at)
			got, err = one.at.settle(ctx, own)
		}
		if err != nil {
			return nil, err
		}
		for i, at := range one.index {
			answers[at] = got[i]
		}
	}
	return answers, nil
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

// beat reaches every relay that has something for workers: what one holds may be anybody's.
func (h *Handler) beat(w http.ResponseWriter, r *http.Request) error {
	var q beatRequest
	hop, err := h.read(w, r, &q)
	if err != nil {
		return err
	}
	by, err := q.caller.caller()
	if err != nil {
		return err
	}
	progress, err := q.progress()
	if err != nil {
		return err
	}
	lost, err := h.hub.Beat(by, progress)
	if err != nil {
		return err
	}
	if !hop {
		lost = append(lost, h.beatOthers(r.Context(), &q)...)
	}
	b := append(appendHeld([]byte{'{'}, "cancel", nil), ',')
	respond(w, append(appendHeld(b, "lost", lost), `,"quiet":false}`...))
	return nil
}

// beatOthers passes a beat on. A relay that cannot be reached now hears the next one.
func (h *Handler) beatOthers(ctx context.Context, q *beatRequest) (lost []pull.Held) {
	p, err := h.look(ctx, false)
	if err != nil {
		return nil
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, to := range p.others() {
		all.Go(func() {
			own := beatRequest{caller: caller{q.Worker, q.Incarnation, p.heldAt(q.Holding, to)}}
			for _, one := range q.Progress {
				if p.d.Places[one.Subscription].Owner == to.incarnation {
					own.Progress = append(own.Progress, one)
				}
			}
			got, err := to.ask(ctx, "beat", own, 0)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, h := range got.Lost {
				lost = append(lost, h.held())
			}
		})
	}
	all.Wait()
	return lost
}

func (b *beatRequest) progress() ([]pull.Working, error) {
	if len(b.Progress) > mostJobs {
		return nil, invalid("progress: is of %d jobs: must be of at most %d", len(b.Progress), mostJobs)
	}
	var all []pull.Working
	for i, p := range b.Progress {
		switch {
		case p.Subscription == "" || p.Token == "":
			return nil, invalid("progress[%d]: names no job: must have subscription, id and token as the job came with them", i)
		case p.Percent < 0 || p.Percent > 100:
			return nil, invalid("progress[%d].percent %v: must be from 0 to 100", i, p.Percent)
		}
		all = append(all, pull.Working{Held: p.held.held(), Progress: pull.Progress{Percent: p.Percent, Note: cut(p.Note)}})
	}
	return all, nil
}
