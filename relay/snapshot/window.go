package snapshot

// Window is what the feed dispatches between two closed snapshots.
type Window struct {
	N    uint64
	Base Snapshot // the closed snapshot that it follows
}

// Closed says that window n and all before it are complete: they hold all that snap sees.
type Closed struct {
	N        uint64
	Snapshot Snapshot
}
