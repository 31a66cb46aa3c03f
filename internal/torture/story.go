package torture

import (
	"fmt"
	"slices"
	"strings"
)

// story tells what happened to a key: when its messages were committed, and when they came.
func (e *evidence) story(key string, wanted map[int64]Message, arrivals []Arrival) string {
	var lines []string
	for id, m := range wanted {
		if m.Key == key {
			lines = append(lines, fmt.Sprintf("%s committed %s (order %d, poison %t)", clock(e.truth.ended[id]), idString(id), m.Order, m.Poison))
		}
	}
	for _, a := range arrivals {
		if m, ok := wanted[a.ID]; ok && m.Key == key {
			lines = append(lines, fmt.Sprintf("%s came %s (accepted %t)", clock(a.At), idString(a.ID), a.Accepted))
		}
	}
	slices.Sort(lines)
	if len(lines) > 60 {
		lines = append(append(lines[:30:30], "…"), lines[len(lines)-30:]...)
	}
	return "its key: " + strings.Join(lines, ", ")
}
