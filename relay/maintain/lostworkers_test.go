package maintain

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/postrider/postrider/relay/store"
)

// lostNotes is what was noted of lost workers.
type lostNotes struct {
	fails error
	list  []store.LostWorker
}

func (n *lostNotes) NoteLost(_ context.Context, list []store.LostWorker) error {
	if n.fails == nil {
		n.list = append(n.list, list...)
	}
	return n.fails
}

// What cannot be written down is written later, with what came meanwhile; with nothing to write nobody is asked; and however many workers are lost
// while the database is away, little is remembered and none is left out.
func TestLostWorkersAreRemembered(t *testing.T) {
	l := &LostWorkers{}
	notes := &lostNotes{fails: errors.New("away")}
	if err := l.Tell(t.Context(), notes); err != nil {
		t.Errorf("with nothing to write: %v", err)
	}
	l.Add("w", "silent", map[string]int{"mail": 2})
	if err := l.Tell(t.Context(), notes); err == nil {
		t.Error("no error")
	}
	l.Add("w", "started anew", map[string]int{"mail": 3})
	notes.fails = nil
	if err := l.Tell(t.Context(), notes); err != nil || len(notes.list) != 1 || notes.list[0] != (store.LostWorker{Subscription: "mail", Worker: "w", Reason: "started anew", Times: 2, Jobs: 5}) {
		t.Errorf("%v, noted %+v", err, notes.list)
	}
	notes.list = nil
	const many = 3 * mostLost
	for i := range many {
		l.Add(fmt.Sprint("w", i), "silent", map[string]int{"mail": 1})
	}
	if err := l.Tell(t.Context(), notes); err != nil || len(notes.list) != mostLost+1 {
		t.Errorf("%v, noted %d", err, len(notes.list))
	}
	times, unnamed := 0, 0
	for _, lost := range notes.list {
		times += lost.Times
		if lost.Worker == "" {
			unnamed += lost.Times
		}
	}
	if times != many || unnamed != many-mostLost {
		t.Errorf("%d times, %d of them without a name", times, unnamed)
	}
}
