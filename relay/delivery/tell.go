package delivery

import (
	"strings"
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/watch"
)

// tell notes for whoever listens what became of a message: it is told once it is saved. Texts are copied: they may be parts of a page.
func (r *Runner) tell(t *task, state string, due time.Time, reason string) {
	if !r.Env.Watch.Listening() {
		return
	}
	c := watch.Change{Subscription: r.Env.Sub.Name, ID: t.row.ID, Topic: strings.Clone(t.row.Topic), Key: strings.Clone(t.key),
		Status: states.StatusOf(state), Attempts: t.attempts, Reason: strings.Clone(reason), At: time.Now().UTC()}
	if !due.IsZero() {
		c.Due = new(due.UTC())
	}
	t.in.records.told.Add(c)
}
