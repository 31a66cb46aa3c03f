package wal

import (
	"testing"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// TestBacklogAfterGap: what comes after something lost must not overtake it.
func TestBacklogAfterGap(t *testing.T) {
	h := NewBacklog(1000)
	h.Connect(func() {})
	all := snapshot.Snapshot{Xmax: 100}
	give := func(xid uint64, bytes int64) []*message.Row {
		h.add(&transaction{xid: xid, rows: []*message.Row{{XID: xid}}, bytes: bytes})
		visible, _ := h.Take(all, nil)
		return visible
	}
	if got := give(1, 10); len(got) != 0 {
		t.Error("a stream that has just begun is relied on")
	}
	h.Restart()
	if got := give(2, 10); len(got) != 1 {
		t.Errorf("%d transactions, want the one that is held", len(got))
	}
	for name, lose := range map[string]func(){
		"overflow":  h.Overflow,
		"too large": func() { give(3, 1001) },
		"cut":       func() { h.Disconnect(); h.Connect(func() {}) },
	} {
		lose()
		if got := give(4, 10); len(got) != 0 {
			t.Errorf("%s: a later transaction is handed out before what was lost", name)
		}
		h.Restart()
		if got := give(5, 10); len(got) != 1 {
			t.Errorf("%s: %d transactions after a new start, want 1", name, len(got))
		}
	}
}

// TestBacklogSignals: what is held gives a signal, the stream's progress only while somebody waits for it.
func TestBacklogSignals(t *testing.T) {
	h, asked := NewBacklog(1000), 0
	h.Ask(10)
	h.Connect(func() { asked++ })
	h.Restart()
	signalled := func() bool {
		select {
		case <-h.Wake:
			return true
		default:
			return false
		}
	}
	signalled()
	for _, step := range []struct {
		what string
		do   func()
		want bool
	}{
		{"a transaction", func() { h.add(&transaction{xid: 1, rows: []*message.Row{{XID: 1}}}) }, true},
		{"its position", func() { h.advance(20) }, false},
		{"a question", func() { h.Ask(40) }, false},
		{"a position before", func() { h.advance(30) }, true},
		{"the same again", func() { h.advance(30) }, false},
		{"the position asked for", func() { h.advance(40) }, true},
		{"one after that", func() { h.advance(50) }, false},
		{"a loss", h.Overflow, true},
		{"a transaction after it", func() { h.add(&transaction{xid: 2}) }, true},
		{"another question", func() { h.Ask(70) }, false},
		{"a cut", h.Disconnect, true},
		{"a position that nobody knew of", func() { h.Connect(func() {}); signalled(); h.advance(60) }, false},
	} {
		if step.do(); signalled() != step.want {
			t.Errorf("%s: a signal was to be given: %t", step.what, step.want)
		}
	}
	if asked != 2 {
		t.Errorf("the server was asked %d times, want 2", asked)
	}
}

// TestTooLargeATransactionIsDropped: a transaction under way is bounded too, before anybody can take it.
func TestTooLargeATransactionIsDropped(t *testing.T) {
	h := NewBacklog(1000)
	h.Connect(func() {})
	h.Restart()
	r := NewAssembler(message.NewDecoder("source"), h)
	r.tx = &r.spare
	for n := range 5 {
		r.insert(&message.Row{XID: 7}) // counts for 256 bytes
		if dropped := r.tx == nil; dropped != (n >= 3) || dropped != r.lost {
			t.Errorf("after row %d: dropped %t, known to be lost %t", n+1, dropped, r.lost)
		}
	}
	if _, gap, _ := h.State(); !gap {
		t.Error("what was dropped is no gap")
	}
}
