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
	c := watch.Change{Subscription: r.Env.Sub.Name, ID: t.ident().ID, Topic: topicOf(t), Key: strings.Clone(t.key),
		Status: states.StatusOf(state), Attempts: t.attempts, Reason: strings.Clone(reason), At: time.Now().UTC()}
	if !due.IsZero() {
		c.Due = new(due.UTC())
	}
	t.in.records.told.Add(c)
}

// topicOf is the message's topic. Of what is parked and not loaded it is known where this runner has leased it; else it is empty.
func topicOf(t *task) string {
	switch {
	case t.row != nil:
		return strings.Clone(t.row.Topic)
	case t.entry != nil:
		return t.entry.topic
	}
	return ""
}
