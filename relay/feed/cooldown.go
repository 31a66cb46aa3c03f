package feed

import "time"

const (
	cooldownMin = 30 * time.Second // without a stream after the producers have outrun it; doubled each time
	cooldownMax = 5 * time.Minute
	lullEvery   = 500 * time.Millisecond
	lullLooks   = 4 // so many looks in a row that find little to do are a lull
)

// nextCooldown returns for how long to read the table after a stream that has lasted so long; cooldown is what it was the last time.
func nextCooldown(cooldown, lasted time.Duration) time.Duration {
	if lasted > cooldownMax {
		return cooldownMin
	}
	return min(max(2*cooldown, cooldownMin), cooldownMax)
}

// lull tells when there are few transactions for a stream to carry. It is pure.
type lull struct {
	busy  float64 // transactions a second that are not few
	n     int64   // transactions by the last tick
	at    time.Time
	quiet int // looks in a row that found few
}

// look takes in how many transactions there have been by now. It says whether it has been quiet for long enough.
func (l *lull) look(now time.Time, n int64) bool {
	l.quiet++
	if float64(n-l.n) >= l.busy*now.Sub(l.at).Seconds() {
		l.quiet = 0
	}
	l.n, l.at = n, now
	return l.quiet >= lullLooks
}
