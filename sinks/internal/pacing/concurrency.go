package pacing

import "time"

const (
	// First is how many deliveries may be under way at once to begin with.
	First = 4

	fastAnswer = time.Second // an answer within it is always fast
	slowFactor = 2           // how many times its usual time a slower destination may take
)

// concurrency says how many deliveries may be under way at once. It grows while answers are good and fast: doubling with each
// round of answers until the first trouble, by one in each round from then on. Trouble halves it: an error of the
// destination, or answers that take long. What "long" means follows the destination: one that always takes three seconds
// is as welcome as one that always takes three milliseconds.
type concurrency struct {
	size, most float64
	threshold  float64       // below it the size doubles
	usual      time.Duration // of answers, near the best that there was
	recent     time.Duration // of answers, smoothed; 0: none since the size was halved
	halved     time.Time     // requests that began earlier tell of the size as it was
}

func newConcurrency(most int) concurrency {
	return concurrency{size: float64(min(First, most)), most: float64(most), threshold: float64(most)}
}

// limit is at least 1.
func (w *concurrency) limit() int { return int(w.size) }

// good takes in an answer. Full says that as many were under way as may be: if not, the answer says nothing about more.
func (w *concurrency) good(began, now time.Time, full bool) {
	if began.Before(w.halved) {
		return
	}
	took := now.Sub(began)
	w.learn(took)
	switch bound := max(fastAnswer, slowFactor*w.usual); {
	case w.recent > bound:
		w.bad(began, now)
	case took > bound || !full:
	case w.size < w.threshold:
		w.size = min(w.size+1, w.most)
	default:
		w.size = min(w.size+1/w.size, w.most)
	}
}

// bad takes in a failure that may come from too many requests. All those of one round count once.
func (w *concurrency) bad(began, now time.Time) {
	if began.Before(w.halved) {
		return
	}
	w.halved = now
	w.size = max(w.size/2, 1)
	w.threshold = w.size
	w.recent = 0
}

// learn follows how long answers take: downwards at once, upwards slowly.
func (w *concurrency) learn(took time.Duration) {
	if w.usual == 0 || took < w.usual {
		w.usual = took
	}
	w.usual += (took - w.usual) / 512
	if w.recent == 0 {
		w.recent = took
	}
	w.recent += (took - w.recent) / 8
}
