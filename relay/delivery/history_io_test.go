package delivery

import (
	"errors"
	"strings"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/sinks"
)

// load answers the reading of parked messages.
func (x *simRunner) load() (acted bool) {
	if x.r == nil || x.loading == nil {
		return false
	}
	if x.stale { // it learns that the cursor is not its own any more
		x.drop()
		return true
	}
	l := &loadedRows{x.loading, make(map[snapshot.Ident]*message.Row)}
	for _, e := range x.loading {
		if p := x.parked[e.id]; p != nil && (p.state == states.Retrying || p.state == states.Held || p.state == states.Scheduled) {
			l.rows[e.ident()] = p.row
		}
	}
	x.loading = nil
	x.r.retries.loaded.Store(l)
	x.r.Life.Wake()
	return true
}

// readPage is a round of passReader.read, of some class.
func (x *simRunner) readPage(limit int) (acted bool) {
	if x.r == nil {
		return false
	}
	for _, in := range x.r.intakes {
		if in.pass.reader == nil {
			continue
		}
		if x.stale {
			x.drop()
			return true
		}
		if x.readPageOf(in, limit) {
			acted = true
		}
	}
	return acted
}

func (x *simRunner) readPageOf(in *intake, limit int) (acted bool) {
	p := x.passes[in]
	if p == nil || p.reader != in.pass.reader {
		r := in.pass.reader
		p = &simPass{reader: r, target: r.target, next: store.Page{Begun: r.resumed, Fresh: !r.resumed, Start: r.afterID}}
		if x.passes == nil {
			x.passes = make(map[*intake]*simPass)
		}
		x.passes[in] = p
	}
	if p.next.Last || len(p.reader.pages) > 0 {
		return false
	}
	got := p.next
	x.fetch(p, &got, limit)
	p.next = store.Page{Target: got.Target, Fresh: got.Fresh, Last: got.Last}
	p.target = &got.Target
	if len(got.Rows) > 0 {
		p.next.Start = got.Rows[len(got.Rows)-1].ID
	}
	p.reader.pages <- got
	p.reader.wake()
	return true
}

// fetch is passReader.readPage.
func (x *simRunner) fetch(p *simPass, got *store.Page, limit int) {
	server := x.sim.server
	got.Target = server.snapshot()
	if p.target != nil {
		got.Target = *p.target
	}
	if got.Start == 0 {
		window := server.window(p.reader.base)
		if len(window) == 0 {
			got.Last = true
			return
		}
		got.Start = window[0].ID - 1
	}
	rows := make([]*message.Row, 0, len(server.table))
	for _, r := range server.table {
		if r.ID > got.Start && !p.reader.base.Sees(r.XID) && got.Target.Sees(r.XID) && x.filter.current.Match(r.Topic) && (p.reader.filter.class == 0 || p.reader.filter.class == r.Priority) &&
			!(p.reader.exclude && x.parked[r.ID] != nil) {
			rows = append(rows, &r.Row)
		}
	}
	rows = sortRows(rows)
	got.Last = len(rows) < limit
	got.Rows = rows[:min(limit, len(rows))]
}

var errSim = errors.New("sim")

// answer lets a lane's batch come back. The draw decides the outcomes.
func (x *simRunner) answer(lane int, draw uint8) (acted bool) {
	if x.r == nil {
		return false
	}
	for i := range x.r.lanes.all {
		n := (i + lane) % len(x.r.lanes.all)
		if l := x.r.lanes.all[n]; l.busy && x.sent[n] && x.takeBatch(l) {
			if x.says != nil {
				x.says(l.batch, l.outcomes)
			}
			for j, t := range l.batch {
				if x.says == nil {
					l.outcomes[j] = x.outcome(t.row, int(draw)+7*j)
					x.leaseTo(t.row.ID, &l.outcomes[j], draw)
				}
				x.sim.notef("%s: message %d: %v", x.sub.Name, t.row.ID, l.outcomes[j])
				if l.outcomes[j] == nil {
					x.accepted[t.row.ID] = true
					x.ever[t.row.ID] = x.ever[t.row.ID] || !x.stale
				}
			}
			x.sent[n] = false
			x.giveBack(l)
			return true
		}
	}
	return false
}

// outcome is what a destination may say; a few messages never work.
func (x *simRunner) outcome(r *message.Row, draw int) error {
	after := time.Duration(draw&1) * time.Second
	switch draw %= 32; {
	case x.down:
		return sinks.Unavailable(errSim, after)
	case strings.HasSuffix(r.Topic, "poison"), draw >= 27 && draw < 30:
		return sinks.Retryable(errSim, after)
	case draw == 30:
		return sinks.Permanent(errSim)
	case draw == 31:
		return sinks.Unavailable(errSim, after)
	case draw == 26:
		return sinks.Gone(errSim)
	case draw >= 23:
		return sinks.Leased(simLease, int64(x.tries[r.ID]))
	}
	return nil
}
