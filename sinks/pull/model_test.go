package pull

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/sinks"
)

// modelJob is what the model knows of a message that was sent.
type modelJob struct {
	id       int64
	line     string
	token    string // of the last hand-out
	with     string // who has it; "" while it waits
	at       time.Time
	deadline time.Time
	spared   time.Time
	doubtful bool
	leased   bool
	token0   int64 // of the lease
}

// modelWorker is a worker as the model knows it, and as it sees itself.
type modelWorker struct {
	incarnation int
	seen        time.Time
	known       map[string]*modelJob // what has arrived, by token
}

// model plays workers against a core, and says by brute force what the core must do.
type model struct {
	t       *rapid.T
	core    *core
	now     time.Time
	setups  map[string]Setup
	jobs    map[int64]*modelJob
	workers map[string]*modelWorker
	marked  map[int64]bool
	settled map[string]Answer // by token
	expect  map[int64]sinks.Kind
	got     map[int64]sinks.Kind
	next    int64
	calls   map[*call]string
	turn    map[*call]int       // in which calls came: what is drawn for them must come in one order
	rows    map[int64]time.Time // until when leases go on, by token, as the relay was told
	sure    bool
}

var modelSetups = map[string]Setup{"a": {5 * time.Second, 40 * time.Second, 20}, "b": {9 * time.Second, 13 * time.Second, 20}}

func newModel(t *rapid.T) *model {
	m := &model{t: t, now: time.Unix(1_800_000_000, 0), setups: modelSetups, jobs: make(map[int64]*modelJob), workers: make(map[string]*modelWorker),
		marked: make(map[int64]bool), settled: make(map[string]Answer), expect: make(map[int64]sinks.Kind), got: make(map[int64]sinks.Kind),
		calls: make(map[*call]string), turn: make(map[*call]int), rows: make(map[int64]time.Time), sure: true}
	m.open(nil)
	return m
}

// open is a relay that takes over, with the leases that it finds.
func (m *model) open(found map[string][]sinks.Lease) {
	tokens := m.next * 1_000_000
	m.core = newCore()
	m.core.now = m.now
	m.core.confirmed = func() bool { return m.sure }
	m.core.lost = func(Lost) {}
	m.core.newToken = func() int64 { tokens++; m.next++; return tokens }
	clear(m.calls)
	for name, setup := range m.setups {
		l := m.core.line(name)
		l.open, l.served, l.setup, l.marked = true, true, setup, make(map[int64]bool)
		l.settle = func(token int64, outcome error) { m.leaseSaid(token, outcome) }
		m.core.adopt(l, found[name])
	}
}

// note records what the core tells the relay.
func (m *model) note(id int64, outcome error) {
	kind, _ := sinks.Classify(outcome)
	if was, twice := m.got[id]; twice {
		m.t.Fatalf("message %d ended as %v and as %v", id, was, kind)
	}
	m.got[id] = kind
}

func (m *model) leaseSaid(token int64, outcome error) {
	if kind, after := sinks.Classify(outcome); kind == sinks.KindLeased {
		m.rows[token] = m.now.Add(after)
		return
	}
	for _, j := range m.jobs {
		if j.leased && j.token0 == token {
			m.note(j.id, outcome)
			return
		}
	}
	m.t.Fatalf("a lease with token %d ended that there is not", token)
}

// send sends a message, new or again.
func (m *model) send(id int64, line string) {
	j := &modelJob{id: id, line: line, doubtful: m.marked[id]}
	delete(m.marked, id)
	m.jobs[id] = j
	m.core.send(context.Background(), m.core.lines[line], sinks.Delivery{Message: &sinks.Message{ID: id}, Subscription: line, Attempt: 1}, func(outcome error) {
		if kind, after := sinks.Classify(outcome); kind == sinks.KindLeased {
			j.leased, j.token0 = true, parseToken(j.token)
			m.rows[j.token0] = m.now.Add(after)
			return
		}
		m.note(id, outcome)
	})
}

// step lets the core act at a time, and the model too.
func (m *model) step(act func()) {
	m.core.now = m.now
	m.giveUp()
	act()
	m.core.look()
	m.core.settleDown()
	m.collectAll()
	m.compare()
}

// giveUp is what time alone does.
func (m *model) giveUp() {
	for _, name := range slices.Sorted(maps.Keys(m.workers)) {
		m.lose(name, func(j *modelJob) bool {
			ttl := m.setups[j.line].WorkerTTL
			return !m.now.Before(m.workers[name].seen.Add(ttl)) && !m.now.Before(j.at.Add(ttl)) && !m.now.Before(j.spared)
		})
	}
	for id, j := range m.jobs {
		if j.with == "" {
			continue
		}
		if !m.now.Before(j.deadline) {
			m.over(j, sinks.KindFailed, Late)
			continue
		}
		if j.doubtful && !m.now.Before(j.at.Add(m.setups[j.line].WorkerTTL)) {
			j.doubtful = false
		}
		_ = id
	}
}

// over ends a job.
func (m *model) over(j *modelJob, kind sinks.Kind, answer Answer) {
	m.expect[j.id] = kind
	m.settled[j.token] = answer
	delete(m.jobs, j.id)
	m.jobs[-j.id] = j // until what came of it has been compared
	j.with = ""
}

func (m *model) lose(name string, which func(*modelJob) bool) {
	var has []*modelJob
	doubtful := false
	for _, j := range m.jobs {
		if j.with == name && j.id > 0 && m.jobs[j.id] == j {
			has = append(has, j)
			doubtful = doubtful || j.doubtful
		}
	}
	for _, j := range has {
		if !which(j) {
			continue
		}
		if len(has) == 1 || j.doubtful {
			m.over(j, sinks.KindLost, Late)
			continue
		}
		m.again(j, true)
	}
}

func (m *model) again(j *modelJob, doubtful bool) {
	if j.leased {
		if doubtful {
			m.marked[j.id] = true
		}
		m.over(j, sinks.KindReleased, Late)
		return
	}
	j.with, j.doubtful = "", doubtful
}

// called is what any call does.
func (m *model) called(name string, incarnation int, holding []Held) (Caller, bool) {
	w := m.workers[name]
	by := Caller{Worker: name, Incarnation: strconv.Itoa(incarnation), Holding: holding, HoldsAll: holding != nil}
	if w.incarnation > incarnation {
		return by, false
	}
	w.seen = m.now
	if holding == nil {
		return by, true
	}
	named := map[string]bool{}
	for _, h := range holding {
		named[h.Token] = true
	}
	for _, j := range m.jobs {
		switch {
		case j.id < 0 || m.jobs[j.id] != j:
		case j.with == "" && j.token != "" && named[j.token] && m.now.Before(j.deadline):
			j.with, j.doubtful = name, false
		case j.with == name && !named[j.token] && m.now.Sub(j.at) >= onTheWay:
			m.again(j, false)
		}
	}
	return by, true
}

// enter is Hub.enter.
func (m *model) enter(by Caller) (*worker, error) {
	m.core.look()
	w, err := m.core.called(by)
	if err == nil && by.HoldsAll {
		m.core.holding(w, by.Holding)
	}
	return w, err
}

// given checks jobs that a worker gets.
func (m *model) given(name string, jobs []*job, arrives bool) {
	w := m.workers[name]
	for _, j := range m.jobs { // of one worker's calls that wait the later one may be the first that looks
		for _, got := range jobs {
			if j.id > 0 && m.jobs[j.id] == j && j.with == name && j.doubtful && parseToken(j.token) < got.token {
				m.t.Fatalf("%s has the doubtful job %d and gets more", name, j.id)
			}
		}
	}
	for _, got := range jobs {
		j := m.jobs[got.ID]
		if j == nil || j.with != "" {
			m.t.Fatalf("%s gets message %d, which is with %+v", name, got.ID, j)
		}
		if j.doubtful && len(jobs) > 1 {
			m.t.Fatalf("doubtful %d comes with others", j.id)
		}
		if !m.sure {
			m.t.Fatalf("message %d is handed out though nobody knows whose it is", j.id)
		}
		if j.token != "" {
			m.settled[j.token] = Late
		}
		j.token, j.with, j.at = tokenText(got.token), name, m.now
		j.deadline = m.now.Add(m.setups[j.line].AttemptTimeout)
		if arrives {
			w.known[j.token] = j
		}
	}
}

// collectAll looks at calls that were woken, in any order; some answers get lost.
func (m *model) collectAll() {
	woken := slices.SortedFunc(maps.Keys(m.calls), func(a, b *call) int { return cmp.Compare(m.turn[a], m.turn[b]) })
	woken = slices.DeleteFunc(woken, func(x *call) bool { return !isReady(x) })
	if len(woken) > 1 {
		woken = rapid.Permutation(woken).Draw(m.t, "order")
	}
	for _, x := range woken {
		name := m.calls[x]
		delete(m.calls, x)
		m.given(name, m.core.collect(x), rapid.IntRange(0, 3).Draw(m.t, "arrives") > 0)
	}
}

func isReady(x *call) bool {
	select {
	case <-x.ready:
		return true
	default:
		return false
	}
}

// compare holds the core to the model.
func (m *model) compare() {
	for id, want := range m.expect {
		if got, ended := m.got[id]; !ended || got != want {
			m.t.Fatalf("message %d ended as %v (%t), want %v", id, got, ended, want)
		}
	}
	for id, got := range m.got {
		if _, wanted := m.expect[id]; !wanted {
			m.t.Fatalf("message %d ended as %v, though nothing happened to it", id, got)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.got)) { // the relay sends again what is not done
		line := m.jobs[-id].line
		delete(m.jobs, -id)
		kind := m.got[id]
		delete(m.got, id)
		delete(m.expect, id)
		if kind != sinks.KindAccepted && kind != sinks.KindPermanent {
			m.send(id, line)
		}
	}
	m.core.settleDown()
	for x := range m.calls {
		select {
		case <-x.ready:
			m.collectAll()
		default:
		}
	}
	for id, j := range m.jobs {
		var with string
		for name, w := range m.core.workers {
			for o := range w.holds {
				if o.ID == id && o.line.name == j.line {
					with += name
				}
			}
		}
		if with != j.with {
			m.t.Fatalf("message %d is with %q, want %q", id, with, j.with)
		}
	}
	for name, l := range m.core.lines {
		if n := len(l.jobs); n != m.count(name) {
			m.t.Fatalf("%d jobs in line %s, want %d", n, name, m.count(name))
		}
	}
}

func (m *model) count(line string) (n int) {
	for _, j := range m.jobs {
		if j.line == line {
			n++
		}
	}
	return n
}

// known draws what a worker thinks that it has.
func (m *model) known(name string) (list []Held) {
	list = []Held{}
	for _, token := range slices.Sorted(maps.Keys(m.workers[name].known)) {
		j := m.workers[name].known[token]
		list = append(list, Held{j.line, j.id, token})
	}
	return list
}

// act is one random thing that happens.
func (m *model) act() {
	names := []string{"u", "v", "w"}
	name := rapid.SampledFrom(names).Draw(m.t, "worker")
	w := m.workers[name]
	if w == nil {
		w = &modelWorker{known: make(map[string]*modelJob), seen: m.now}
		m.workers[name] = w
	}
	var holding []Held
	if rapid.Bool().Draw(m.t, "tells") {
		holding = m.known(name)
	}
	switch what := rapid.IntRange(0, 12).Draw(m.t, "what"); what {
	case 0, 1, 2:
		m.next++
		id, line := m.next, rapid.SampledFrom([]string{"a", "b"}).Draw(m.t, "line")
		m.step(func() { m.send(id, line) })
	case 3, 4:
		m.now = m.now.Add(time.Duration(rapid.IntRange(100, 7000).Draw(m.t, "ms")) * time.Millisecond)
		m.step(func() {})
	case 5, 6:
		m.take(name, holding, rapid.Bool().Draw(m.t, "waits"))
	case 7, 8:
		m.settle(name, holding)
	case 9, 10:
		m.beat(name, holding)
	case 11:
		m.restart(name)
	case 12:
		if rapid.IntRange(0, 3).Draw(m.t, "handover") == 0 {
			m.handOver()
		}
	}
}

func (m *model) take(name string, holding []Held, waits bool) {
	m.sure = rapid.IntRange(0, 9).Draw(m.t, "sure") > 0
	defer func() { m.sure = true }()
	if !m.sure {
		return // the hub refuses the call
	}
	wants := []Want{{"a", rapid.IntRange(1, 3).Draw(m.t, "max")}, {"b", rapid.IntRange(1, 3).Draw(m.t, "max")}}
	arrives := rapid.IntRange(0, 3).Draw(m.t, "arrives") > 0
	m.step(func() {
		by, _ := m.called(name, m.workers[name].incarnation, holding)
		worker, err := m.enter(by)
		if err != nil {
			m.t.Fatal(err)
		}
		jobs := m.core.take(worker, wants)
		m.given(name, jobs, arrives)
		if len(jobs) == 0 && waits {
			x := m.core.await(worker, wants)
			m.calls[x], m.turn[x] = name, len(m.turn)
		}
	})
}

func (m *model) settle(name string, holding []Held) {
	w := m.workers[name]
	if len(w.known) == 0 {
		return
	}
	token := rapid.SampledFrom(slices.Sorted(maps.Keys(w.known))).Draw(m.t, "token")
	j := w.known[token]
	outcome := rapid.SampledFrom(Outcomes).Draw(m.t, "outcome")
	forgets := rapid.IntRange(0, 3).Draw(m.t, "forgets") > 0 // else the answer was lost
	m.step(func() {
		by, _ := m.called(name, w.incarnation, holding)
		if _, err := m.enter(by); err != nil {
			m.t.Fatal(err)
		}
		item := Item{Held: Held{j.line, j.id, token}, Outcome: outcome}
		want, has := m.settled[token]
		if now := m.jobs[j.id]; now != nil && now.token == token {
			want = OK
			switch outcome {
			case Done:
				m.over(now, sinks.KindAccepted, OK)
			case Dead:
				m.over(now, sinks.KindPermanent, OK)
			case Retry:
				m.over(now, sinks.KindFailed, OK)
			case Snooze:
				m.over(now, sinks.KindSnoozed, OK)
			case Release:
				if now.with != "" {
					m.again(now, false)
				}
				now.doubtful = false
				if now.leased {
					m.settled[token] = OK
				}
			}
		} else if !has {
			want = Unknown
		}
		if got := m.core.settle(item); got != want {
			m.t.Fatalf("settle of %d with %s is answered %q, want %q", j.id, token, got, want)
		}
	})
	if forgets {
		delete(w.known, token)
	}
}

func (m *model) beat(name string, holding []Held) {
	w := m.workers[name]
	known := slices.Sorted(maps.Keys(w.known))
	progress := len(known) > 0 && rapid.Bool().Draw(m.t, "progress")
	m.step(func() {
		by, _ := m.called(name, w.incarnation, holding)
		if _, err := m.enter(by); err != nil {
			m.t.Fatal(err)
		}
		if progress {
			j := w.known[known[0]]
			now := m.jobs[j.id]
			if now != nil && now.token == known[0] && now.with != "" {
				now.deadline = m.now.Add(m.setups[now.line].AttemptTimeout)
			}
			m.core.progress(Working{Held: Held{j.line, j.id, known[0]}})
		}
		for _, h := range m.core.answered(Late, holding) {
			if m.settled[h.Token] != Late {
				m.t.Fatalf("%+v is called lost, and it is %q", h, m.settled[h.Token])
			}
			delete(w.known, h.Token)
		}
	})
}

// restart is a worker that dies, and comes again with nothing.
func (m *model) restart(name string) {
	w := m.workers[name]
	m.step(func() {
		known := m.core.workers[name] != nil
		if known {
			m.lose(name, func(*modelJob) bool { return true })
		}
		for x, by := range m.calls {
			if by == name {
				delete(m.calls, x)
				m.core.leave(x)
			}
		}
		w.incarnation++
		w.known = make(map[string]*modelJob)
		by, _ := m.called(name, w.incarnation, nil)
		if _, err := m.enter(by); err != nil {
			m.t.Fatal(err)
		}
		if by.Incarnation = strconv.Itoa(w.incarnation - 1); known {
			if _, err := m.core.called(by); err == nil {
				m.t.Fatalf("a former incarnation of %s is let in", name)
			}
		}
	})
}

// handOver is another relay that takes over what this one hands over.
func (m *model) handOver() {
	m.step(func() {})
	found := make(map[string][]sinks.Lease)
	var waiting []*modelJob
	for _, l := range m.core.lines {
		for j := range l.jobs {
			if j.with != nil {
				found[l.name] = append(found[l.name], sinks.Lease{ID: j.ID, Token: j.token, Worker: j.with.text(), Attempt: j.Attempt})
			}
		}
	}
	for _, l := range m.core.lines {
		m.core.relinquish(l)
		for i := range found[l.name] {
			found[l.name][i].Until = m.rows[found[l.name][i].Token]
		}
	}
	for id, j := range m.jobs {
		if got := m.got[id]; j.with == "" {
			if got != sinks.KindReleased {
				m.t.Fatalf("message %d, which waited, ended as %v", id, got)
			}
			waiting = append(waiting, j)
		} else if !j.leased {
			m.t.Fatalf("message %d, which was out, was not leased", id)
		}
		delete(m.got, id)
	}
	for _, l := range m.core.lines {
		m.core.close(l)
	}
	m.settled, m.marked = make(map[string]Answer), make(map[int64]bool)
	for _, j := range m.jobs {
		if j.with != "" {
			j.spared = m.now.Add(grace)
			j.doubtful = false
			if j.deadline.Before(j.spared) {
				j.deadline = j.spared
			}
			j.at = m.now
		}
	}
	for _, w := range m.workers {
		w.seen = m.now
	}
	m.open(found)
	slices.SortFunc(waiting, func(a, b *modelJob) int { return cmp.Compare(a.id, b.id) })
	for _, j := range waiting {
		m.send(j.id, j.line)
	}
	m.step(func() {})
}

// TestHubIsTheModel: whatever workers and clocks do, and whichever answers get lost, the core does what the model says by brute force.
func TestHubIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			m.act()
		}
		m.finish()
	})
}

// finish is one good worker that does the rest: nothing stays for ever.
func (m *model) finish() {
	for x := range m.calls {
		m.core.leave(x)
	}
	clear(m.calls)
	m.workers["good"] = &modelWorker{known: make(map[string]*modelJob), seen: m.now}
	for round := 0; len(m.jobs) > 0; round++ {
		if round > 300 {
			m.t.Fatalf("%d messages are left: %v", len(m.jobs), fmt.Sprint(slices.Collect(maps.Values(m.jobs))))
		}
		m.now = m.now.Add(time.Second)
		m.step(func() {
			by, _ := m.called("good", 0, nil)
			worker, err := m.enter(by)
			if err != nil {
				m.t.Fatal(err)
			}
			jobs := m.core.take(worker, []Want{{"a", 10}, {"b", 10}})
			m.given("good", jobs, true)
			for _, j := range jobs {
				m.over(m.jobs[j.ID], sinks.KindAccepted, OK)
				if got := m.core.settle(Item{Held: Held{j.Subscription, j.ID, tokenText(j.token)}, Outcome: Done}); got != OK {
					m.t.Fatalf("the good worker is answered %q", got)
				}
			}
		})
	}
}
