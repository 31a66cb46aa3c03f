package relay

import "slices"

// progress is how far one subscription has come. It is pure: no clock, no I/O, no locks.
//
// Everything that base sees is settled. Beyond it there may be a pass over the table, whose rows come in ascending order of
// id, and after the pass the windows that the feed dispatched. What is settled out of order is remembered id by id.
type progress struct {
	base Snapshot
	skip doneSet // settled earlier: loaded from the cursor, or carried over from windows that a new pass reads again
	pass *passProgress
	wins []*winProgress
	done int // ids settled beyond what base and the pass's afterID tell
}

// passProgress counts off a pass's rows.
type passProgress struct {
	target  Snapshot
	fresh   bool // target was taken after everything in skip had become visible
	afterID int64
	rows    fifo[markedRow]
	first   int  // sequence number of the first row
	scanned bool // no more rows will be admitted
}

// markedRow is a row that was admitted.
type markedRow struct {
	ident
	settled bool
}

// winProgress counts off a window's messages.
type winProgress struct {
	win       *window
	unsettled int
	rows      []markedRow
}

func newProgress(s saved) *progress { return &progress{base: s.base, skip: s.done} }

// startPass begins a pass to target. Nothing may be under way.
func (p *progress) startPass(target Snapshot, afterID int64, fresh bool) {
	p.skip = append(slices.Clip(p.skip), newDoneSet(p.marked())...)
	p.wins, p.done = nil, 0
	p.pass = &passProgress{target: target, fresh: fresh, afterID: afterID}
}

// admitPass takes in the pass's next row and returns its sequence number. Rows with one id are admitted before any of them is settled.
func (p *progress) admitPass(m ident) int {
	p.pass.rows.push(markedRow{ident: m})
	return p.pass.first + p.pass.rows.len() - 1
}

// reachPass says that the pass has no more rows up to the id. It returns whether that is progress: while rows before it are not
// settled it is not.
func (p *progress) reachPass(id int64) bool {
	if p.pass.rows.len() > 0 || id <= p.pass.afterID {
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
	rows := q.rows.all()
	rows[seq-q.first].settled = true
	p.done++
	n := 0
	for n < len(rows) && rows[n].settled {
		n++
	}
	for n > 0 && n < len(rows) && rows[n].id == rows[n-1].id {
		n-- // the id comes twice
	}
	if n > 0 {
		q.afterID = rows[n-1].id
	}
	q.rows.drop(n)
	q.first += n
	p.done -= n
	p.finishPass()
}

func (p *progress) finishPass() {
	if !p.pass.scanned || p.pass.rows.len() > 0 {
		return
	}
	p.base = p.pass.target
	if p.pass.fresh {
		p.skip = nil
	}
	p.pass = nil
}

// admitLive takes in a message of the window and returns its number there. Windows come in ascending order.
func (p *progress) admitLive(w *window, m ident) int {
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
	last.rows = append(last.rows, markedRow{ident: m})
	return len(last.rows) - 1
}

// settleLive settles the message with the number in the window.
func (p *progress) settleLive(w *window, seq int) {
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
func (p *progress) advance(closed closedAt, limit *window) {
	if p.pass != nil || closed.n == 0 {
		return
	}
	for len(p.wins) > 0 {
		w := p.wins[0]
		if w.unsettled > 0 || w.win.n > closed.n || limit != nil && w.win.n >= limit.n {
			break
		}
		p.done -= len(w.rows)
		p.wins = p.wins[1:]
	}
	switch {
	case len(p.wins) > 0:
		p.base = p.wins[0].win.base
	case limit != nil && limit.n <= closed.n:
		p.base = limit.base
	default:
		p.base = closed.snap
	}
}

// idle says whether everything admitted is settled.
func (p *progress) idle() bool {
	if p.pass != nil && (p.pass.rows.len() > 0 || !p.pass.scanned) {
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
func (p *progress) save() saved {
	s := saved{base: p.base}
	skip := slices.Clip(p.skip)
	if q := p.pass; q != nil {
		target := q.target
		s.target, s.afterID = &target, q.afterID
		if q.fresh {
			skip = skip.above(q.afterID)
		}
	}
	s.done = append(skip, newDoneSet(p.marked())...)
	return s
}

// marked returns what was admitted beyond what base and afterID tell.
func (p *progress) marked() (settled, unsettled []ident) {
	settled = make([]ident, 0, p.done)
	add := func(rows []markedRow) {
		for _, r := range rows {
			if r.settled {
				settled = append(settled, r.ident)
			} else {
				unsettled = append(unsettled, r.ident)
			}
		}
	}
	if p.pass != nil {
		add(p.pass.rows.all())
	}
	for _, w := range p.wins {
		add(w.rows)
	}
	return settled, unsettled
}
