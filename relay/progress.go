package relay

import (
	"slices"

	"github.com/postrider/postrider/relay/internal/fifo"
	"github.com/postrider/postrider/relay/snapshot"
)

// progress is how far one subscription has come. It is pure: no clock, no I/O, no locks.
//
// Everything that base sees is settled. Beyond it there may be a pass over the table, whose rows come in ascending order of
// id, and after the pass the windows that the feed dispatched. What is settled out of order is remembered id by id.
type progress struct {
	base snapshot.Snapshot
	skip snapshot.DoneSet // settled earlier: loaded from the cursor, or carried over from windows that a new pass reads again
	pass *passProgress
	wins []*winProgress
	done int // ids settled beyond what base and the pass's afterID tell
}

// passProgress counts off a pass's rows.
type passProgress struct {
	target  snapshot.Snapshot
	fresh   bool // target was taken after everything in skip had become visible
	afterID int64
	rows    fifo.Queue[markedRow]
	first   int  // sequence number of the first row
	scanned bool // no more rows will be admitted
}

// markedRow is a row that was admitted.
type markedRow struct {
	snapshot.Ident
	settled bool
}

// winProgress counts off a window's messages.
type winProgress struct {
	win       *snapshot.Window
	unsettled int
	rows      []markedRow
}

func newProgress(s snapshot.Position) *progress { return &progress{base: s.Base, skip: s.Done} }

// startPass begins a pass to target. Nothing may be under way.
func (p *progress) startPass(target snapshot.Snapshot, afterID int64, fresh bool) {
	p.skip = append(slices.Clip(p.skip), snapshot.NewDoneSet(p.marked())...)
	p.wins, p.done = nil, 0
	p.pass = &passProgress{target: target, fresh: fresh, afterID: afterID}
}

// admitPass takes in the pass's next row and returns its sequence number. Rows with one id are admitted before any of them is settled.
func (p *progress) admitPass(m snapshot.Ident) int {
	p.pass.rows.Push(markedRow{Ident: m})
	return p.pass.first + p.pass.rows.Len() - 1
}

// reachPass says that the pass has no more rows up to the id. It returns whether that is progress: while rows before it are not
// settled it is not.
func (p *progress) reachPass(id int64) bool {
	if p.pass.rows.Len() > 0 || id <= p.pass.afterID {
		return false
	}
	p.pass.afterID = id
	return true
}

// scanPass says that the pass has no more rows.
func (p *progress) scanPass() {
	p.pass.scanned = true
	p.finishPass()
}

// settlePass settles the row with the sequence number.
func (p *progress) settlePass(seq int) {
	q := p.pass
	rows := q.rows.All()
	rows[seq-q.first].settled = true
	p.done++
	n := 0
	for n < len(rows) && rows[n].settled {
		n++
	}
	for n > 0 && n < len(rows) && rows[n].ID == rows[n-1].ID {
		n-- // the id comes twice
	}
	if n > 0 {
		q.afterID = rows[n-1].ID
	}
	q.rows.Drop(n)
	q.first += n
	p.done -= n
	p.finishPass()
}

func (p *progress) finishPass() {
	if !p.pass.scanned || p.pass.rows.Len() > 0 {
		return
	}
	p.base = p.pass.target
	if p.pass.fresh {
		p.skip = nil
	}
	p.pass = nil
}

// admitLive takes in a message of the window and returns its number there. Windows come in ascending order.
func (p *progress) admitLive(w *snapshot.Window, m snapshot.Ident) int {
	var last *winProgress
	if n := len(p.wins); n > 0 {
		last = p.wins[n-1]
	}
	if last == nil || last.win != w {
		next := &winProgress{win: w}
		if last != nil {
			next.rows = make([]markedRow, 0, len(last.rows)) // about as many as there
		}
		last = next
		p.wins = append(p.wins, last)
	}
	last.unsettled++
	last.rows = append(last.rows, markedRow{Ident: m})
	return len(last.rows) - 1
}

// settleLive settles the message with the number in the window.
func (p *progress) settleLive(w *snapshot.Window, seq int) {
	for i := len(p.wins) - 1; i >= 0; i-- { // most likely the newest
		if x := p.wins[i]; x.win == w {
			x.unsettled--
			x.rows[seq].settled = true
			p.done++
			return
		}
	}
}

// advance moves the base as far as the windows allow: closed is the newest closed snapshot, read before limit, the first
// window of which not all messages have been admitted, nil if there is none.
func (p *progress) advance(closed snapshot.Closed, limit *snapshot.Window) {
	if p.pass != nil || closed.N == 0 {
		return
	}
	for len(p.wins) > 0 {
		w := p.wins[0]
		if w.unsettled > 0 || w.win.N > closed.N || limit != nil && w.win.N >= limit.N {
			break
		}
		p.done -= len(w.rows)
		p.wins = p.wins[1:]
	}
	switch {
	case len(p.wins) > 0:
		p.base = p.wins[0].win.Base
	case limit != nil && limit.N <= closed.N:
		p.base = limit.Base
	default:
		p.base = closed.Snapshot
	}
}

// idle says whether everything admitted is settled.
func (p *progress) idle() bool {
	if p.pass != nil && (p.pass.rows.Len() > 0 || !p.pass.scanned) {
		return false
	}
	for _, w := range p.wins {
		if w.unsettled > 0 {
			return false
		}
	}
	return true
}

// save returns what the cursor's row should hold.
func (p *progress) save() snapshot.Position {
	s := snapshot.Position{Base: p.base}
	skip := slices.Clip(p.skip)
	if q := p.pass; q != nil {
		target := q.target
		s.Target, s.AfterID = &target, q.afterID
		if q.fresh {
			skip = skip.Above(q.afterID)
		}
	}
	s.Done = append(skip, snapshot.NewDoneSet(p.marked())...)
	return s
}

// marked returns what was admitted beyond what base and afterID tell.
func (p *progress) marked() (settled, unsettled []snapshot.Ident) {
	settled = make([]snapshot.Ident, 0, p.done)
	add := func(rows []markedRow) {
		for _, r := range rows {
			if r.settled {
				settled = append(settled, r.Ident)
			} else {
				unsettled = append(unsettled, r.Ident)
			}
		}
	}
	if p.pass != nil {
		add(p.pass.rows.All())
	}
	for _, w := range p.wins {
		add(w.rows)
	}
	return settled, unsettled
}
