package relay

// window is what the feed dispatches between two closed snapshots.
type window struct {
	n    uint64
	base Snapshot // the closed snapshot that it follows
}

// closedAt says that window n and all before it are complete: they hold all that snap sees.
type closedAt struct {
	n    uint64
	snap Snapshot
}
