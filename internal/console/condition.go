package console

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay/states"
)

// How bad something is; the numbers put the worst first.
const (
	quiet = iota - 1 // nothing is to be said of it
	good
	odd // somebody wanted it so, or it may pass
	bad // does not get better by itself
)

// behind is the lag from which on a subscription that delivers is worth a word.
const behind = time.Minute

// condition is how something is, in a word, and why.
type condition struct {
	Word  string
	Level int
	Why   string
}

// Class is the word's style.
func (c condition) Class() string { return [...]string{"plain", "good", "odd", "bad"}[c.Level+1] }

// byWorkers says whether workers take messages themselves, in SQL, so that no relay has to.
func byWorkers(s *admin.SubscriptionStatus) bool { return strings.HasPrefix(s.Sink, "sql:") }

// conditionOf says whether a subscription stands still, and why.
func conditionOf(s *admin.SubscriptionStatus, relays []admin.RelayStatus, now time.Time) condition {
	switch {
	case s.State == "paused":
		return condition{"paused", odd, cmp.Or(s.PausedReason, "somebody paused it and gave no reason")}
	case s.Trouble != "":
		return condition{troubleWord(s.Trouble), bad, s.Trouble}
	case s.Owner == "" && !byWorkers(s) && !anyLives(relays, now):
		return condition{"not delivered", bad, "no relay runs"}
	case s.Owner == "" && !byWorkers(s):
		return condition{"not delivered", odd, "no relay has taken it over yet: within seconds one does"}
	case s.Contested != "":
		return condition{"contested", odd, s.Contested}
	case human.Seconds(s.LagSeconds) >= behind && byWorkers(s):
		return condition{"behind", odd, fmt.Sprintf("the oldest message has waited for %s: workers take too few, or none come", human.Duration(human.Seconds(s.LagSeconds)))}
	case human.Seconds(s.LagSeconds) >= behind:
		return condition{"behind", odd, fmt.Sprintf("it delivers, and the oldest message has waited for %s", human.Duration(human.Seconds(s.LagSeconds)))}
	}
	return condition{"active", good, ""}
}

// troubleWord tells what somebody has to change from what may end by itself.
func troubleWord(trouble string) string {
	switch {
	case states.IsMisconfigured(trouble):
		return "misconfigured"
	case states.IsDown(trouble):
		return "down"
	}
	return "in trouble"
}

func anyLives(relays []admin.RelayStatus, now time.Time) bool {
	for _, r := range relays {
		if r.Lives(now) {
			return true
		}
	}
	return false
}
