package delivery

import (
	"slices"
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
)

// play makes an event happen.
func (s *simulation) play(op simOp) {
	x := s.subs[int(op.a)%len(s.subs)]
	f := s.feeds[int(op.b)%2]
	if x.r != nil && op.c&3 > 0 { // mostly where something goes on
		f = x.feed
	}
	switch what := op.what % 64; {
	case what < 18:
		s.transact(what, op)
	case what == 19:
		x.askToCancel(op)
	case what == 20, what == 21:
		s.follow(op)
	case what < 25:
		s.playStream(what, f, op)
	case what < 34:
		f.advance(op.a&1 == 0, op.c > 128)
	case what < 52:
		s.playRunner(what, x, op)
	default:
		s.playTrouble(what, x, f, op)
	}
}

// transact is what applications do.
func (s *simulation) transact(what uint8, op simOp) {
	server := s.server
	tx := server.open(int(op.a))
	switch {
	case what < 5 || tx == nil && what != 15: // a transaction in one go
		tx = server.begin()
		rows := 1 + int(op.c>>6)
		if what == 4 && op.c&1 == 1 { // more than held rows have room for
			rows = 20
		}
		for n := range rows {
			s.insert(tx, simOp{a: op.a, b: op.b + uint8(n), c: op.c})
		}
		server.write(tx)
		server.show(tx)
	case what == 5, what == 6:
		tx = server.begin()
		for n := range 1 + int(op.c>>7)*19 {
			s.insert(tx, simOp{a: op.a, b: op.b + uint8(n), c: op.c})
		}
	case what < 11:
		s.insert(tx, op)
	case what == 11:
		tx.savepoints = append(tx.savepoints, len(tx.rows))
	case what == 12:
		tx.rollbackTo(int(op.b))
	case what == 13:
		server.end(tx) // rolled back
	case what == 14:
		server.write(tx)
	case what == 15:
		server.other()
	default:
		if tx := server.waiting(int(op.b)); tx != nil {
			server.show(tx)
			return
		}
		server.write(tx)
		server.show(tx)
	}
}

// insert draws a message from the event's details.
func (s *simulation) insert(tx *simTx, op simOp) {
	keys := []string{"k", "k", "", "l", "m"}
	var due time.Time
	if op.c%16 == 15 {
		due = s.server.now.Add(30 * time.Second)
	}
	topic := simTopics[int(op.b/8)%3]
	if op.b == 255 || op.b == 77 {
		topic = simTopics[3]
	}
	s.insertRow(tx, topic, keys[int(op.b)%len(keys)], due)
}

func (s *simulation) insertRow(tx *simTx, topic, key string, due time.Time) {
	s.notef("transaction %d inserts message %d on %s with key %q", tx.xid, s.server.nextID, topic, key)
	s.server.insert(tx, topic, key, due)
}

func (s *simulation) playStream(what uint8, f *simFeed, op simOp) {
	switch {
	case f.stream == nil:
		f.connect()
	case what < 24:
		for range 1 + op.c%8 { // a stream that is mostly behind is soon given up
			f.stream.next(0)
		}
	default:
		f.stream.keepalive()
	}
}

func (s *simulation) playRunner(what uint8, x *simRunner, op simOp) {
	switch {
	case what < 40:
		x.step()
	case what < 43:
		x.readPage(1 + int(op.b)%4)
	case what < 44:
		x.load()
		x.handCancels()
	case what < 45:
		x.callBack(op)
		x.look()
		x.settleLease(op.a, op.c)
	case what < 48:
		x.answer(int(op.b), op.c)
	case what < 51:
		x.saveSome(false, op.b > 240)
	default:
		s.bustle(op)
	}
	if !x.reload || op.b > 128 {
		x.resume(s.feeds[int(op.b)%2])
	}
}

// resume gives the subscription to a relay, if nobody has it, or it was paused, or is to be loaded anew.
func (x *simRunner) resume(f *simFeed) {
	if x.paused || x.reload || x.r != nil && x.r.HasJoined() {
		x.stopCleanly()
	}
	if x.r == nil {
		x.takeOver(f)
	}
}

// follow brings a transaction by the streams. Without it most histories would read the table nearly all the time: streams are
// seldom ahead of the ticks, and what ran before a gap keeps a feed from its stream.
func (s *simulation) follow(op simOp) {
	for op.c > 64 && len(s.server.running) > 0 {
		if tx := s.server.running[0]; tx.written {
			s.server.show(tx)
		} else {
			s.server.end(tx)
		}
	}
	s.warmUp()
	s.transact(1, op)
	for _, f := range s.feeds {
		if f.stream == nil {
			continue
		}
		for f.stream.at < len(s.server.wal) {
			f.stream.next(0)
		}
		f.finishTick()
		f.advance(false, true) // this one sees the transaction
		f.finishTick()
	}
}

// warmUp lets all runners become live and the feeds follow their streams, unless an older transaction is open.
func (s *simulation) warmUp() {
	for range 4 {
		for _, x := range s.subs {
			if x.feed.stream == nil {
				x.feed.connect()
			}
			x.feed.tick()
			if x.feed.stream != nil {
				x.feed.stream.keepalive()
			}
			s.settle(x)
		}
	}
}

// bustle lets everything go on for a while, with outcomes of any kind.
func (s *simulation) bustle(op simOp) {
	for n := range 3 + int(op.a)%4 {
		if op.b&1 == 1 { // long enough for retries and probes
			s.server.now = s.server.now.Add(10 * time.Second)
		}
		for _, f := range s.feeds {
			if f.stream != nil {
				f.stream.next(0)
			}
			f.advance(n%2 == 0, false)
		}
		for _, x := range s.subs {
			x.step()
			x.readPage(4)
			x.load()
			x.answer(n, op.c+uint8(n))
			x.saveSome(false, false)
			x.callBack(op)
			x.look()
			x.settleLease(op.b, op.c)
			x.handCancels()
		}
	}
}

func (s *simulation) playTrouble(what uint8, x *simRunner, f *simFeed, op simOp) {
	switch what {
	case 52, 53:
		s.server.now = s.server.now.Add(time.Minute)
	case 54:
		if op.c > 192 {
			f.lost = op.a
			return
		}
		f.disconnect()
	case 55:
		if f.stream != nil && op.c < 64 {
			f.stream.next(int(op.b) % 4)
		}
	case 56:
		f.trust()
	case 57:
		x.down = !x.down
	case 58:
		s.crash(op)
	case 59:
		x.stopCleanly()
		x.takeOver(s.feeds[int(op.b)%2])
	case 60:
		s.command(x, op)
	case 61:
		s.server.recycle(int64(op.b)%4, func(r *simRow) bool {
			return !slices.ContainsFunc(s.subs, func(x *simRunner) bool { return !x.stored.sees(r) })
		})
	case 62:
		if x.r == nil {
			return
		}
		if in := x.r.intakes[int(op.b)%len(x.r.intakes)]; in.live.queue != nil {
			in.live.queue.Refuse(openWindowOf(x.feed.Feed))
		}
	default:
		s.handOver(x, op)
	}
}

// handOver moves a subscription to the other relay while that looks at the server.
func (s *simulation) handOver(x *simRunner, op simOp) {
	if x.r == nil {
		return
	}
	from, to := x.feed, s.feeds[0]
	if to == from {
		to = s.feeds[1]
	}
	if !to.ticking() {
		to.advance(true, false)
	}
	s.transact(1, op)
	for range 4 {
		from.advance(true, true)
		s.settle(x)
	}
	x.stopCleanly()
	x.takeOver(to)
	x.step()
}

// crash ends a relay, or the server and with it what both relays have in memory.
func (s *simulation) crash(op simOp) {
	i := int(op.b) % 2
	whole := op.c%4 == 0
	if whole {
		s.notef("the server crashes")
		s.server.crash()
	}
	for n := range s.feeds {
		if n == i || whole {
			s.lose(n)
		}
	}
	for _, x := range s.subs {
		if x.r == nil {
			x.takeOver(s.feeds[int(op.a)%2])
		}
	}
}

func (s *simulation) lose(n int) {
	s.notef("relay %d is lost", n)
	for _, x := range s.subs {
		if x.r != nil && x.feed == s.feeds[n] {
			x.drop()
		}
	}
	s.newFeed(n)
}

func (s *simulation) command(x *simRunner, op simOp) {
	if op.c&1 == 0 && op.b%4 == 0 {
		x.prioritize()
		return
	}
	if op.c > 200 {
		x.replay(snapshot.Snapshot{})
		return
	}
	for id := range s.server.nextID {
		p := x.parked[id]
		switch {
		case p == nil:
		case op.c&1 == 0 && p.state == states.Dead:
			x.redrive(id)
			return
		case op.c&1 == 1 && (p.state == states.Dead || op.c&6 == 0 && p.state != states.Discarded && p.state != states.Completed && p.state != states.Cancelled):
			x.discard(id)
			x.died[id] = true
			return
		}
	}
}
