package relay

import "time"

const (
	busyRate  = 1500                 // transactions a second from which a look at the table is no later than a stream that is late
	lateAfter = 2 * time.Millisecond // more than the shortest time between a commit and its sending
	lateShare = 5                    // a window is late if more than one of so many transactions is
	lateCost  = 4                    // what a late window adds to the score; each other one takes one away
	lateScore = 7
)

// pace judges whether the stream keeps up. The server decodes one transaction after the other in one process, and each commit wakes
// it: where processors are scarce that makes producers slower, and the stream later than a look at the table would be.
type pace struct{ score int }

// outrun takes in a window: how many transactions the stream brought, how many of them late, and how long that took. It says whether
// the producers have outrun the stream.
func (p *pace) outrun(brought, late int, window time.Duration, busyRate float64) bool {
	if float64(brought) >= busyRate*window.Seconds() && late > brought/lateShare {
		p.score += lateCost
	} else {
		p.score = max(p.score-1, 0)
	}
	return p.score >= lateScore
}
