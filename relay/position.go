package relay

// saved is progress as a cursor's row holds it.
type saved struct {
	base    Snapshot
	target  *Snapshot
	afterID int64
	done    doneSet
}
