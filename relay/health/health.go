package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/dberr"
)

const (
	Moment    = 5 * time.Second // what fails for longer counts
	retellMin = time.Minute     // until a failure that goes on is logged again; doubled each time
)

// What can fail. Each is a sentence of which a subscription may be the subject.
const (
	CannotStart       = "deliveries cannot start"
	CannotReadPage    = "the outbox cannot be read"
	CannotReadMessage = "a message cannot be read"
	CannotLoad        = "parked messages cannot be read"
	CannotSchedule    = "scheduled messages cannot be read"
	CannotSave        = "progress cannot be saved"
	CannotLook        = "new messages cannot be looked for"
	CannotPoll        = "subscriptions cannot be read"
	CannotCallBack    = "callbacks cannot be looked up"
	CannotFire        = "schedules cannot be fired"
	CannotCancel      = "what is to be cancelled cannot be looked up"
	CannotStream      = "the stream cannot be followed"
	CannotListen      = "notifications cannot be received"
)

const everySubscription = ""

// harmless are failures that delay no delivery: they are logged, and the relay stays ready.
var harmless = map[string]bool{CannotStream: true, CannotListen: true}

// Health knows what fails again and again for reasons that are not a destination's. It decides what of that is logged, what makes the
// relay not ready, and what is a subscription's trouble. A database that is away makes everything fail: that is one thing to tell, not
// one for each part (see outage). A nil health is for parts that are run by themselves.
type Health struct {
	log    *slog.Logger
	moment time.Duration

	// Prepared statements turned out to be somebody else's: a pooler is in between.
	Foreign atomic.Bool

	mu     sync.Mutex
	ills   map[illness]*ill
	outage outage
}

// ErrForeign ends a generation that has taken a pooler in transaction mode for a server.
var ErrForeign = errors.New("prepared statements are not this connection's own: a pooler in transaction mode sits in between")

// Sees looks at an error for what only a pooler in transaction mode brings about.
func (h *Health) Sees(err error) {
	if code := dberr.Code(err); code == "42P05" || code == "26000" { // a prepared statement that exists already, or does not
		h.Foreign.Store(true)
	}
}

// illness is something that can fail, for one subscription or for all.
type illness struct{ what, subscription string }

// ill is an illness that has come and not gone yet.
type ill struct {
	since  time.Time
	cause  string
	told   time.Time // zero: not yet
	retell time.Duration
}

func New(log *slog.Logger, moment time.Duration) *Health {
	return &Health{log: log, moment: moment, ills: make(map[illness]*ill)}
}

// Failed takes note of a failure that concerns these subscriptions, all if there are none. What goes on is told at once, and again
// after longer and longer times, once for all of them.
func (h *Health) Failed(what string, err error, subscriptions ...string) {
	if h == nil {
		return
	}
	h.Sees(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(subscriptions) == 0 {
		subscriptions = []string{everySubscription}
	}
	now := time.Now()
	level := slog.LevelDebug
	var longest time.Duration
	for _, name := range subscriptions {
		x := h.ills[illness{what, name}]
		if x == nil {
			x = &ill{since: now, retell: retellMin}
			h.ills[illness{what, name}] = x
		}
		x.cause = dberr.Cause(err)
		age := now.Sub(x.since)
		longest = max(longest, age)
		switch {
		case h.outage.ongoing(), dberr.Away(err) && age < h.moment: // the outage tells, or it was a connection that is made again
		case x.told.IsZero():
			x.told, level = now, slog.LevelWarn
		case now.Sub(x.told) >= x.retell:
			x.told, x.retell, level = now, 2*x.retell, slog.LevelWarn
		}
	}
	args := append(subject(subscriptions), "because", dberr.Cause(err))
	if longest > h.moment {
		args = append(args, "for", longest.Round(time.Second))
	}
	h.log.Log(context.Background(), level, what, args...)
}

// Works takes note of a success.
func (h *Health) Works(what string, subscriptions ...string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(subscriptions) == 0 {
		subscriptions = []string{everySubscription}
	}
	var told []string
	var longest time.Duration
	for _, name := range subscriptions {
		x := h.ills[illness{what, name}]
		if x == nil {
			continue
		}
		delete(h.ills, illness{what, name})
		if !x.told.IsZero() {
			told = append(told, name)
			longest = max(longest, time.Since(x.since))
		}
	}
	if len(told) > 0 {
		h.log.Info("no longer: "+what, append(subject(told), "after", longest.Round(time.Millisecond))...)
	}
}

// subject names the subscriptions in a line of the log.
func subject(subscriptions []string) []any {
	switch {
	case subscriptions[0] == everySubscription:
		return nil
	case len(subscriptions) == 1:
		return []any{"subscription", subscriptions[0]}
	}
	return []any{"subscription", subscriptions[0], "and_others", len(subscriptions) - 1}
}

// Keep drops what is known of subscriptions that are another relay's now, or nobody's.
func (h *Health) Keep(ours func(subscription string) bool) {
	h.drop(func(k illness) bool { return k.subscription != everySubscription && !ours(k.subscription) })
}

// Forget drops what is known of a subscription.
func (h *Health) Forget(subscription string) {
	h.drop(func(k illness) bool { return k.subscription == subscription })
}

// Clear drops everything: the parts that knew it have ended.
func (h *Health) Clear() { h.drop(func(illness) bool { return true }) }

// Any says whether anything has failed and has not worked since.
func (h *Health) Any() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ills) > 0
}

func (h *Health) drop(which func(illness) bool) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.ills {
		if which(k) {
			delete(h.ills, k)
		}
	}
}

// Trouble says what keeps a subscription from going on for longer than a moment, "" if nothing does.
func (h *Health) Trouble(subscription string) string {
	if h == nil {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var texts []string
	for k, x := range h.ills {
		if (k.subscription == subscription || k.subscription == everySubscription) && !harmless[k.what] && time.Since(x.since) > h.moment {
			texts = append(texts, k.what+": "+x.cause)
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, "; ")
}

// Err says what has failed for longer than a moment, with the subscription, nil if nothing has.
func (h *Health) Err(now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outage.ongoing() && now.Sub(h.outage.since) > h.moment {
		return h.outage.err(now) // whatever else fails, fails because of that
	}
	var texts []string
	for k, x := range h.ills {
		age := now.Sub(x.since)
		if age <= h.moment || harmless[k.what] {
			continue
		}
		text := fmt.Sprintf("%s for %s: %s", k.what, age.Round(time.Second), x.cause)
		if k.subscription != everySubscription {
			text = "subscription " + k.subscription + ": " + text
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil
	}
	slices.Sort(texts)
	if n := len(texts) - mostTexts; n > 0 {
		texts = append(texts[:mostTexts], fmt.Sprintf("and %d more", n))
	}
	return errors.New(strings.Join(texts, "; "))
}

// mostTexts bounds what one answer of Ready tells.
const mostTexts = 5
