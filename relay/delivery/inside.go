package delivery

// Inside is what a runner has in memory at one moment: tests of a whole relay wait for it, and measure it.
type Inside struct {
	Tasks       int  // that lanes have
	Lingers     bool // a lane waits for more of a batch
	Parked      int  // exceptions that are remembered
	Loading     bool // scheduled messages are being loaded
	Unsaved     int64
	MostUnsaved int64 // bytes: intake stops there
	Full        bool  // intake has stopped
}

// Load is what a runner has under way and in memory at one moment, for metrics.
type Load struct {
	InFlight       int   // deliveries
	Bytes, Unsaved int64 // of messages in lanes, and of those that the next save copies
}

// Load looks at it.
func (r *Runner) Load() Load {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Load{InFlight: r.lanes.inFlight, Bytes: r.lanes.bytes, Unsaved: r.retries.parked.unsaved}
}

// Inside looks at what the runner has in memory.
func (r *Runner) Inside() Inside {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Inside{
		Tasks: r.lanes.tasks, Lingers: !r.lanes.lingers.IsZero(), Parked: len(r.retries.parked.byID), Loading: r.retries.scheduled.loading,
		Unsaved: r.retries.parked.unsaved, MostUnsaved: r.maxTaskBytes(), Full: r.someFull(),
	}
}
