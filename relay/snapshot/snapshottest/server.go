// Package snapshottest has a model of what PostgreSQL shows of concurrent transactions.
package snapshottest

import (
	"maps"
	"slices"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/relay/snapshot"
)

// Snapshots are of a server that has handed out ids up to 40.
var Snapshots = rapid.Custom(func(t *rapid.T) snapshot.Snapshot {
	s := snapshot.Snapshot{Xmax: rapid.Uint64Range(3, 40).Draw(t, "xmax")}
	for xid := uint64(3); xid < s.Xmax; xid++ {
		if rapid.IntRange(0, 3).Draw(t, "running") == 0 {
			s.Xip = append(s.Xip, xid)
		}
	}
	return s
})

// Server is a model of what PostgreSQL shows of concurrent transactions.
type Server struct {
	next    uint64 // transaction id
	IDs     int64
	clock   int64
	Running map[uint64][]Row
	Visible []Row // in the order of becoming so
}

type Row struct {
	snapshot.Ident
	XID uint64
}

func NewServer() *Server { return &Server{next: 700, Running: make(map[uint64][]Row)} }

func (s *Server) begin() {
	s.Running[s.next] = nil
	s.next++
}

// insert adds a row to the transaction; kept is false in a savepoint that will be rolled back.
func (s *Server) insert(xid uint64, kept bool) {
	s.IDs++
	s.clock++
	if kept {
		s.Running[xid] = append(s.Running[xid], Row{snapshot.Ident{ID: s.IDs, Born: s.clock}, xid})
	}
}

func (s *Server) End(xid uint64, commit bool) {
	if commit {
		s.Visible = append(s.Visible, s.Running[xid]...)
	}
	delete(s.Running, xid)
}

func (s *Server) Snapshot() snapshot.Snapshot {
	return snapshot.Snapshot{Xmax: s.next, Xip: slices.Sorted(maps.Keys(s.Running))}
}

// Window is the statement's rule for the rows after a, looked at now.
func (s *Server) Window(a snapshot.Snapshot) (ids []int64) {
	now := s.Snapshot()
	wasRunning := slices.DeleteFunc(slices.Clone(a.Xip), func(xid uint64) bool { return slices.Contains(now.Xip, xid) })
	for _, r := range s.Visible {
		if r.XID >= a.Xmax || slices.Contains(wasRunning, r.XID) {
			ids = append(ids, r.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// Act does something at random to the transactions.
func (s *Server) Act(t *rapid.T) {
	open := slices.Sorted(maps.Keys(s.Running))
	if len(open) == 0 || len(open) < 6 && rapid.IntRange(0, 3).Draw(t, "begin") == 0 {
		s.begin()
		return
	}
	xid := rapid.SampledFrom(open).Draw(t, "transaction")
	switch rapid.IntRange(0, 5).Draw(t, "act") {
	case 0:
		s.End(xid, false)
	case 1, 2:
		s.End(xid, true)
	default:
		s.insert(xid, rapid.IntRange(0, 4).Draw(t, "savepoint") > 0)
	}
}
