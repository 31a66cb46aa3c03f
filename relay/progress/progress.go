package progress

import (
	"slices"

	"github.com/postrider/postrider/relay/internal/fifo"
	"github.com/postrider/postrider/relay/snapshot"
)

// Progress is how far one subscription has come. It is pure: no clock, no I/O, no locks.
//
// Everything that base sees is settled. Beyond it there may be a pass over the table, whose rows come in ascending order of
// id, and after the pass the windows that the feed dispatched. What is settled out of order is remembered id by id.
type Progress struct {
	Base snapshot.Snapshot
	Skip snapshot.DoneSet // settled earlier: loaded from the cursor, or carried over from windows that a new pass reads again
	Pass *passProgress
	Wins []*winProgress
	Done int // ids settled beyond what base and the pass's afterID tell
}

// passProgress counts off a pass's rows.
type passProgress struct {
	target  snapshot.Snapshot
	fresh   bool // target was taken after everything in skip had become visible
	afterID int64
	Rows    fifo.Queue[markedRow]
	first   int  // sequence number of the first row
	scanned bool // no more rows will be admitted
}

// markedRow is a row that was admitted.
type markedRow struct {
	snapshot.Ident
	Settled bool
}

// winProgress counts off a window's messages.
type winProgress struct {
	win       *snapshot.Window
	unsettled int
	Rows      []markedRow
}

func New(s snapshot.Position) *Progress { return &Progress{Base: s.Base, Skip: s.Done} }

// StartPass begins a pass to target. Nothing may be under way.
func (p *Progress) StartPass(target snapshot.Snapshot, afterID int64, fresh bool) {
	p.Skip = append(slices.Clip(p.Skip), snapshot.NewDoneSet(p.marked())...)
	p.Wins, p.Done = nil, 0
	p.Pass = &passProgress{target: target, fresh: fresh, afterID: afterID}
}

// AdmitPass takes in the pass's next row and returns its sequence number. Rows with one id are admitted before any of them is settled.
func (p *Progress) AdmitPass(m snapshot.Ident) int {
	p.Pass.Rows.Push(markedRow{Ident: m})
	return p.Pass.first + p.Pass.Rows.Len() - 1
}

// ReachPass says that the pass has no more rows up to the id. It returns whether that is progress: while rows before it are not
// settled it is not.
func (p *Progress) ReachPass(id int64) bool {
	if p.Pass.Rows.Len() > 0 || id <= p.Pass.afterID {
		return false
	}
	p.Pass.afterID = id
	return true
}

// ScanPass says that the pass has no more rows.
func (p *Progress) ScanPass() {
	p.Pass.scanned = true
	p.finishPass()
}

// SettlePass settles the row with the sequence number.
func (p *Progress) SettlePass(seq int) {
	q := p.Pass
	rows := q.Rows.All()
	rows[seq-q.first].Settled = true
	p.Done++
	n := 0
	for n < len(rows) && rows[n].Settled {
		n++
	}
	for n > 0 && n < len(rows) && rows[n].ID == rows[n-1].ID {
		n-- // the id comes twice
	}
	if n > 0 {
		q.afterID = rows[n-1].ID
	}
	q.Rows.Drop(n)
	q.first += n
	p.Done -= n
	p.finishPass()
}

func (p *Progress) finishPass() {
	if !p.Pass.scanned || p.Pass.Rows.Len() > 0 {
		return
	}
	p.Base = p.Pass.target
	if p.Pass.fresh {
		p.Skip = nil
	}
	p.Pass = nil
}

// AdmitLive takes in a message of the window and returns its number there. Windows come in ascending order.
func (p *Progress) AdmitLive(w *snapshot.Window, m snapshot.Ident) int {
	var last *winProgress
	if n := len(p.Wins); n > 0 {
		last = p.Wins[n-1]
	}
	if last == nil || last.win != w {
		next := &winProgress{win: w}
		if last != nil {
			next.Rows = make([]markedRow, 0, len(last.Rows)) // about as many as there
		}
		last = next
		p.Wins = append(p.Wins, last)
	}
	last.unsettled++
	last.Rows = append(last.Rows, markedRow{Ident: m})
	return len(last.Rows) - 1
}

// SettleLive settles the message with the number in the window.
func (p *Progress) SettleLive(w *snapshot.Window, seq int) {
	for i := len(p.Wins) - 1; i >= 0; i-- { // most likely the newest
		if x := p.Wins[i]; x.win == w {
			x.unsettled--
			x.Rows[seq].Settled = true
			p.Done++
			return
		}
	}
}

// Advance moves the base as far as the windows allow: closed is the newest closed snapshot, read before limit, the first
// window of which not all messages have been admitted, nil if there is none.
func (p *Progress) Advance(closed snapshot.Closed, limit *snapshot.Window) {
	if p.Pass != nil || closed.N == 0 {
		return
	}
	for len(p.Wins) > 0 {
		w := p.Wins[0]
		if w.unsettled > 0 || w.win.N > closed.N || limit != nil && w.win.N >= limit.N {
			break
		}
		p.Done -= len(w.Rows)
		p.Wins = p.Wins[1:]
	}
	switch {
	case len(p.Wins) > 0:
		p.Base = p.Wins[0].win.Base
	case limit != nil && limit.N <= closed.N:
		p.Base = limit.Base
	default:
		p.Base = closed.Snapshot
	}
}

// Idle says whether everything admitted is settled.
func (p *Progress) Idle() bool {
	if p.Pass != nil && (p.Pass.Rows.Len() > 0 || !p.Pass.scanned) {
		return false
	}
	for _, w := range p.Wins {
		if w.unsettled > 0 {
			return false
		}
	}
	return true
}

// Save returns what the cursor's row should hold.
func (p *Progress) Save() snapshot.Position {
	s := snapshot.Position{Base: p.Base}
	skip := slices.Clip(p.Skip)
	if q := p.Pass; q != nil {
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
func (p *Progress) marked() (settled, unsettled []snapshot.Ident) {
	settled = make([]snapshot.Ident, 0, p.Done)
	add := func(rows []markedRow) {
		for _, r := range rows {
			if r.Settled {
				settled = append(settled, r.Ident)
			} else {
				unsettled = append(unsettled, r.Ident)
			}
		}
	}
	if p.Pass != nil {
		add(p.Pass.Rows.All())
	}
	for _, w := range p.Wins {
		add(w.Rows)
	}
	return settled, unsettled
}
