package jobs

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/postrider/postrider/sinks/pull"
)

// beat reaches every relay that has something for workers: what one holds may be anybody's.
func (h *Handler) beat(w http.ResponseWriter, r *http.Request) error {
	var q beatRequest
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
	progress, err := q.progress()
	if err != nil {
		return err
	}
	gone, away, err := h.hub.Beat(by, progress)
	if !hop && (err == nil || passes(err)) { // what is wrong here is no reason for others to think that the worker is silent
		more, told := h.beatOthers(r.Context(), &q)
		gone.Lost, gone.Cancelled = append(gone.Lost, more.Lost...), append(gone.Cancelled, more.Cancelled...)
		away = slices.DeleteFunc(away, func(name string) bool { return told[name] })
	}
	if err != nil {
		return err
	}
	if len(away) > 0 { // else a deadline that was to move would not
		return moving(away[0])
	}
	b := append(appendHeld([]byte{'{'}, "cancel", gone.Cancelled), ',')
	respond(w, appendHeld(b, "lost", gone.Lost), ends)
	return nil
}

// beatOthers passes a beat on, and says of which subscriptions it has reached the owner. A relay that cannot be reached now hears the next one.
// Each gets all that is held: whose it is may have changed since we looked, and what is not its own says nothing to it.
func (h *Handler) beatOthers(ctx context.Context, q *beatRequest) (gone pull.Gone, told map[string]bool) {
	p, err := h.look(ctx, false)
	if err != nil {
		return gone, nil
	}
	told = make(map[string]bool)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, to := range p.others() {
		all.Go(func() {
			own := beatRequest{caller: q.caller}
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
			for _, one := range own.Progress {
				told[one.Subscription] = true
			}
			for _, h := range got.Lost {
				gone.Lost = append(gone.Lost, h.held())
			}
			for _, h := range got.Cancel {
				gone.Cancelled = append(gone.Cancelled, h.held())
			}
		})
	}
	all.Wait()
	return gone, told
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
		all = append(all, pull.Working{Held: p.held.held(), Progress: pull.Progress{Percent: p.Percent, Note: strings.Clone(cut(p.Note))}})
	}
	return all, nil
}
