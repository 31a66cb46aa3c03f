package relay

import "fmt"

// saved is progress as a cursor's row holds it.
type saved struct {
	base    Snapshot
	target  *Snapshot
	afterID int64
	done    doneSet
}

// String tells whether progress has changed.
func (s saved) String() string {
	target := ""
	if s.target != nil {
		target = s.target.String()
	}
	return fmt.Sprintf("%s %s %d %s", s.base, target, s.afterID, s.done)
}
