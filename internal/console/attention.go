package console

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/human"
)

// notice is one thing that somebody should know of.
type notice struct {
	condition
	What string
	Path string
	To   string // what the path leads to, where it is not what the notice is about
}

// mostNotices are shown; of the others it is said how many there are.
const mostNotices = 8

// noticesOf are what stands still or will, the worst first.
func noticesOf(r *admin.StatusReport) (list []notice) {
	if !anyLives(r.Relays, r.Now) {
		list = append(list, notice{condition{"nothing is delivered", bad, "no relay is alive: `postrider run` starts one"}, "Relays", "/relays", ""})
	}
	for i := range r.Subscriptions {
		list = append(list, noticesOfOne(&r.Subscriptions[i], r)...)
	}
	for _, s := range r.Schedules {
		switch s.State {
		case admin.ScheduleTrouble:
			list = append(list, notice{condition{"in trouble", bad, s.Trouble}, "schedule " + s.Name, "/schedules", ""})
		case admin.ScheduleLate:
			list = append(list, notice{condition{"late", odd, "it was due " + human.Duration(human.Seconds(s.LateSeconds)) + " ago: a relay fires it when one runs"}, "schedule " + s.Name, "/schedules", ""})
		}
	}
	title := admin.Titles(r.Relays)
	for _, one := range r.Relays {
		if one.Silent(r.Now) {
			list = append(list, notice{condition{"silent", odd, "last seen " + human.Ago(r.Now, one.LastSeen) + ": it was killed, or hangs, or has lost the database"}, "relay " + title[one.Incarnation], "/relays", ""})
		}
	}
	slices.SortStableFunc(list, func(a, b notice) int { return cmp.Compare(b.Level, a.Level) })
	return list
}

// noticesOfOne are those of one subscription.
func noticesOfOne(s *admin.SubscriptionStatus, r *admin.StatusReport) (list []notice) {
	path := subscriptionPath(s.Name)
	if c := conditionOf(s, r.Relays, r.Now); c.Level != good {
		list = append(list, notice{c, s.Name, path, ""})
	}
	if s.Dead > 0 {
		list = append(list, notice{condition{"dead letters", odd, human.Plural(s.Dead, "message") + " given up: redrive them once the reason is gone, or discard them"},
			s.Name, "/dead?subscription=" + s.Name, "its dead letters"})
	}
	if s.SegmentsHeld >= 12 { // of sixteen
		list = append(list, notice{condition{"the log fills up", bad, fmt.Sprintf("%s of the log cannot be emptied because of it", human.Plural(s.SegmentsHeld, "segment"))}, s.Name, "/relays", "the log"})
	}
	return list
}

func subscriptionPath(name string) string { return "/subscriptions/" + name }
