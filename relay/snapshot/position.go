package snapshot

import "fmt"

// Position is progress as a cursor's row holds it.
type Position struct {
	Base    Snapshot
	Target  *Snapshot
	AfterID int64
	Done    DoneSet
}

// String tells whether progress has changed.
func (s Position) String() string {
	target := ""
	if s.Target != nil {
		target = s.Target.String()
	}
	return fmt.Sprintf("%s %s %d %s", s.Base, target, s.AfterID, s.Done)
}
