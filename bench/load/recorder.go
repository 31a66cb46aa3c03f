// Package load produces messages, and keeps when each was committed.
package load

import (
	"sync"
	"time"

	"github.com/postrider/postrider/bench/report"
)

// Recorder keeps when COMMIT returned for each message. Its methods may be called concurrently.
type Recorder struct {
	mu    sync.Mutex
	at    []int64 // by n, in nanoseconds since 1970; 0: not committed
	count int64
}

// Committed takes down that messages from to from+n-1 were committed.
func (r *Recorder) Committed(from int64, n int, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for int64(len(r.at)) < from+int64(n) {
		r.at = append(r.at, make([]int64, max(1<<16, len(r.at)))...)
	}
	for i := range int64(n) {
		r.at[from+i] = at.UnixNano()
	}
	r.count += int64(n)
}

// Count is the number of messages committed.
func (r *Recorder) Count() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// Times returns when COMMIT returned by n, in nanoseconds since 1970; 0 means that it did not, and the slice may end earlier.
func (r *Recorder) Times() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int64(nil), r.at...)
}

// Latencies puts arrivals, as Times of the destination has them, against the commits. wanted, if it is not nil, picks messages. missing
// is the number of committed messages that did not arrive.
func Latencies(commits, arrivals []int64, wanted func(n int64, committed time.Time) bool) (h *report.Histogram, missing int64) {
	h = report.NewHistogram()
	for n, committed := range commits {
		if committed == 0 || wanted != nil && !wanted(int64(n), time.Unix(0, committed)) {
			continue
		}
		if n >= len(arrivals) || arrivals[n] == 0 {
			missing++
			continue
		}
		h.Record(time.Duration(arrivals[n] - committed))
	}
	return h, missing
}
