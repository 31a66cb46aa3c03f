package delivery

import (
	"log/slog"
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

const (
	NoticeEvery = 5 * time.Second // between two lines of one kind about one subscription
	mostReasons = 100             // reasons that are told apart for one line
	longReason  = 300             // bytes of a reason that a line shows
)

// deathNotices tell an operator of dead letters that have been recorded: of the first at once, of those that follow it together,
// with the commonest reason, so that a thousand make no thousand lines.
type deathNotices struct {
	count   int
	first   int64 // the lowest id among them
	reasons map[string]int
	next    time.Time // no line before
}

// add takes note of a dead letter.
func (d *deathNotices) add(id int64, reason string) {
	if d.count == 0 || id < d.first {
		d.first = id
	}
	d.count++
	if d.reasons == nil {
		d.reasons = make(map[string]int)
	}
	if _, known := d.reasons[reason]; known || len(d.reasons) < mostReasons {
		d.reasons[reason]++
	}
}

// due says whether there is something to tell now; if not, how long to wait (zero: for nothing).
func (d *deathNotices) due(now time.Time) (bool, time.Duration) {
	if d.count == 0 {
		return false, 0
	}
	return !now.Before(d.next), d.next.Sub(now)
}

// tell writes the line.
func (d *deathNotices) tell(log *slog.Logger, subscription string, now time.Time) {
	if d.count == 0 {
		return
	}
	commonest := ""
	for reason, n := range d.reasons {
		if n > d.reasons[commonest] || n == d.reasons[commonest] && reason < commonest {
			commonest = reason
		}
	}
	log = log.With("subscription", subscription, "id", d.first)
	if d.count == 1 {
		log.Warn("dead letter", "because", Shorten(commonest))
	} else {
		log.Warn("dead letters", "count", d.count, "mostly_because", Shorten(commonest), "of_these", d.reasons[commonest])
	}
	*d = deathNotices{next: now.Add(NoticeEvery)}
}

// Shorten keeps a reason to what a line of a log can bear.
func Shorten(reason string) string {
	if len(reason) <= longReason {
		return reason
	}
	cut := longReason
	for cut > 0 && reason[cut]&0xC0 == 0x80 { // in the middle of a character
		cut--
	}
	return reason[:cut] + " …"
}

// noteDead takes note of the dead letters of a save that was carried out.
func (r *Runner) noteDead(item *SaveItem) {
	for m, op := range item.Ops {
		if op.state == states.Dead && !op.remove {
			r.report.deaths.add(m.ID, op.reason)
		}
	}
}

// troubleNotices tell when deliveries begin to stand still, and when they go on. What changes in the reason meanwhile, such as the
// port of an attempt to connect, is worth a line now and then alone.
type troubleNotices struct {
	since time.Time // zero: no trouble
	next  time.Time // no further line before
}

func (t *troubleNotices) tell(log *slog.Logger, subscription, trouble string, now time.Time) {
	log = log.With("subscription", subscription)
	switch {
	case trouble == "":
		log.Info("deliveries go on", "after", now.Sub(t.since).Round(time.Millisecond))
		*t = troubleNotices{}
	case t.since.IsZero():
		log.Warn("deliveries stand still", "because", Shorten(trouble))
		*t = troubleNotices{since: now, next: now.Add(time.Minute)}
	case !now.Before(t.next):
		log.Warn("deliveries still stand still", "for", now.Sub(t.since).Round(time.Second), "because", Shorten(trouble))
		t.next = now.Add(time.Minute)
	}
}

// report is what others are told of a runner: its cursor's row, the log, metrics.
type report struct {
	trouble     string
	destination store.Destination // as it is to be saved
	describing  string            // what the cursor's row shall say of it
	troubles    troubleNotices
	deaths      deathNotices
	sink        sinkTrouble
}

// next is when there may be something to tell, if that is sooner.
func (r *report) next(next time.Duration, now time.Time, busy bool) time.Duration {
	if _, wait := r.deaths.due(now); wait > 0 {
		next = min(next, wait)
	}
	if r.sink.text != "" || busy && !r.sink.again.IsZero() {
		next = min(next, r.sink.again.Sub(now))
	}
	return next
}
