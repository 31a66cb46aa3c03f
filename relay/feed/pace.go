package feed

import "time"

// BusyRate is how many transactions a second make a look at the table no later than a stream that is late.
const BusyRate = 1500

const (
	lateShare = 5 // a window is late if more than one of so many transactions is, or half of them have not come at all
	lateCost  = 4 // what a late window adds to the score; each other one takes one away
	lateScore = 7
)

// pace judges whether the stream keeps up. The server decodes one transaction after the other in one process, and each commit wakes
// it: where processors are scarce that makes producers slower, and the stream later than a look at the table would be.
type pace struct{ score int }

// outrun takes in a window: its length, how many transactions the table has of it, how many the stream brought meanwhile, and how many
// of those late. It says whether the producers have outrun the stream.
func (p *pace) outrun(window time.Duration, committed, brought, late int, busyRate float64) bool {
	behind := late > brought/lateShare || brought < committed/2
	if behind && float64(committed) >= busyRate*window.Seconds() {
		p.score += lateCost
	} else {
		p.score = max(p.score-1, 0)
	}
	return p.score >= lateScore
}
