// Package snapshottest has a model of what PostgreSQL shows of concurrent transactions.
package relay

import (
	"maps"
	"slices"

	"pgregory.net/rapid"
)

// snapshots are of a server that has handed out ids up to 40.
var snapshots = rapid.Custom(func(t *rapid.T) Snapshot {
	s := Snapshot{Xmax: rapid.Uint64Range(3, 40).Draw(t, "xmax")}
	for xid := uint64(3); xid < s.Xmax; xid++ {
		if rapid.IntRange(0, 3).Draw(t, "running") == 0 {
			s.Xip = append(s.Xip, xid)
		}
	}
	return s
})

// server is a model of what PostgreSQL shows of concurrent transactions.
type server struct {
	next    uint64 // transaction id
	ids     int64
	clock   int64
	running map[uint64][]modelRow
	visible []modelRow // in the order of becoming so
}

type modelRow struct {
	ident
	xid uint64
}

func newServer() *server { return &server{next: 700, running: make(map[uint64][]modelRow)} }

func (s *server) begin() {
	s.running[s.next] = nil
	s.next++
}

// insert adds a row to the transaction; kept is false in a savepoint that will be rolled back.
func (s *server) insert(xid uint64, kept bool) {
	s.ids++
	s.clock++
	if kept {
		s.running[xid] = append(s.running[xid], modelRow{ident{s.ids, s.clock}, xid})
	}
}

func (s *server) end(xid uint64, commit bool) {
	if commit {
		s.visible = append(s.visible, s.running[xid]...)
	}
	delete(s.running, xid)
}

func (s *server) snapshot() Snapshot {
	return Snapshot{Xmax: s.next, Xip: slices.Sorted(maps.Keys(s.running))}
}

// window is the statement's rule for the rows after a, looked at now.
func (s *server) window(a Snapshot) (ids []int64) {
	now := s.snapshot()
	wasRunning := slices.DeleteFunc(slices.Clone(a.Xip), func(xid uint64) bool { return slices.Contains(now.Xip, xid) })
	for _, r := range s.visible {
		if r.xid >= a.Xmax || slices.Contains(wasRunning, r.xid) {
			ids = append(ids, r.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// act does something at random to the transactions.
func (s *server) act(t *rapid.T) {
	open := slices.Sorted(maps.Keys(s.running))
	if len(open) == 0 || len(open) < 6 && rapid.IntRange(0, 3).Draw(t, "begin") == 0 {
		s.begin()
		return
	}
	xid := rapid.SampledFrom(open).Draw(t, "transaction")
	switch rapid.IntRange(0, 5).Draw(t, "act") {
	case 0:
		s.end(xid, false)
	case 1, 2:
		s.end(xid, true)
	default:
		s.insert(xid, rapid.IntRange(0, 4).Draw(t, "savepoint") > 0)
	}
}
