package maintain

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/relay/store"
)

const (
	locksSubject = "_locks"    // what operators are told under of whoever has locks: no subscription has this name
	notedFor     = time.Minute // between two notes of the same
)

// heldNews is what was noted last of who holds segments.
type heldNews struct {
	at   time.Time
	text string
}

// find notes that a holder has one segment more.
func (h *heldSegments) find(id, subject, reason string, about any) {
	one := h.found[id]
	if one == nil {
		one = &store.Held{Holder: id, Subject: subject, Reason: reason, About: about}
		h.found[id] = one
	}
	one.Segments++
}

// lookWhoNeeds looks for the subscriptions that have not settled what is past the retention, once that has been so for a while.
func (r *Retention) lookWhoNeeds(ctx context.Context, segment int) error {
	if waited(r.held.needed, segment) < r.Patience {
		return nil
	}
	needers, err := r.ring.NeededBy(ctx, segment)
	for _, n := range needers {
		r.held.find("subscription "+n.Subscription, n.Subscription, n.Reason, n)
	}
	return err
}

// tellWhoHolds notes for operators who was found in this turn: when it is news, and now and then, so that others can tell who is still there.
func (r *Retention) tellWhoHolds(ctx context.Context) error {
	found := r.held.found
	r.held.found = make(map[string]*store.Held)
	list, text := make([]store.Held, 0, len(found)), ""
	for _, id := range slices.Sorted(maps.Keys(found)) {
		list, text = append(list, *found[id]), text+fmt.Sprintln(id, found[id].Segments)
	}
	if len(list) == 0 || text == r.held.told.text && time.Since(r.held.told.at) < notedFor {
		return nil
	}
	if err := r.ring.NoteHolders(ctx, list); err != nil {
		return err
	}
	r.held.told = heldNews{at: time.Now(), text: text}
	return nil
}
