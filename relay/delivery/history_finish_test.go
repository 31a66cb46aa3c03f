package delivery

import (
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/subscription"
)

// finish ends all transactions and troubles, lets everything come to rest and looks at what has become of it.
func (s *simulation) finish() {
	s.notef("the end")
	for len(s.server.running) > 0 {
		if tx := s.server.running[0]; tx.written {
			s.server.show(tx)
		} else {
			s.server.end(tx)
		}
	}
	for _, x := range s.subs {
		x.down = false
		if x.sub.Settings.Priorities && s.setup.c&4 > 0 {
			x.prioritize()
		}
	}
	for _, f := range s.feeds {
		f.lost = 0
	}
	for n := 0; n < 120 && !s.rested; n++ {
		s.rested = s.round()
	}
	for _, x := range s.subs {
		x.stopCleanly()
		x.checkFinished()
	}
	for _, f := range s.feeds {
		f.checkEmpty()
	}
}

// round lets a minute pass, and all that can happen in it; true if nothing is left to do.
func (s *simulation) round() bool {
	s.server.now = s.server.now.Add(time.Minute)
	s.notef("a minute later")
	for range 6 {
		for _, f := range s.feeds {
			for f.stream != nil && f.stream.at < len(s.server.wal) {
				f.stream.next(0)
			}
			f.tick()
		}
		for _, x := range s.subs {
			s.settle(x)
		}
	}
	rest := true
	for _, x := range s.subs {
		rest = rest && x.atRest()
	}
	return rest
}

func (s *simulation) settle(x *simRunner) {
	for range 5000 { // a limit lets one message go at a time
		x.resume(s.feeds[1])
		if !(x.step() || x.readPage(10) || x.load() || x.answer(0, 0) || x.saveSome(false, false) || x.look() || x.settleLease(0, 0) || x.handCancels() || x.endCancels() || x.awaitRate()) {
			return
		}
	}
	s.failf("%s: it does not come to rest: %s", x.sub.Name, x.stored)
}

// awaitRate lets the time pass until a limit lets the next message go.
func (x *simRunner) awaitRate() bool {
	if x.r == nil || x.r.limits.until().IsZero() || x.lookAt.After(x.r.limits.until()) || !x.lookAt.After(x.sim.server.now) {
		return false
	}
	x.sim.server.now = x.lookAt // perhaps for something else: then again
	return true
}

// atRest gives dead messages up that others wait for, and says whether nothing is left to do.
func (x *simRunner) atRest() bool {
	for id := range x.sim.server.nextID {
		if p := x.parked[id]; p != nil && p.state == states.Dead && x.sub.Settings.OnDead == subscription.DeadHolds {
			x.discard(id)
		}
	}
	if len(x.cancels.asked) > 0 || x.reload || len(x.stored) > 1 && !x.sub.Settings.Priorities {
		return false
	}
	for _, p := range x.parked {
		if p.state != states.Dead && p.state != states.Discarded && p.state != states.Cancelled {
			return false
		}
	}
	for _, r := range x.sim.server.committed {
		if x.matches(r) && !x.stored.sees(r) {
			return false
		}
	}
	return true
}
