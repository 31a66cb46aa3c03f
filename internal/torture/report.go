package torture

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what came of a round.
type Report struct {
	Config
	// Violations are broken promises, each naming messages or what was left behind. Empty: all is well.
	Violations []string
	// LeftOut are destinations that the round was to have, and why it had not.
	LeftOut    []string
	Messages   int // that committed
	Faults     []FaultCount
	Deliveries []DeliveryCount

	Transactions, RolledBack, Unknown int
	Vanished                          int // messages that may have been confirmed by a primary that is no more
	SlowestInsert                     time.Duration
	PeakMemory                        float64 // bytes, of one relay
	Looked                            int     // arrivals that were looked up at once
	Reused                            int     // transaction ids that were handed out again
}

// FaultCount is how often a fault was injected, and for how long in all.
type FaultCount struct {
	Name, About string
	Times       int
	Lasted      time.Duration
}

// DeliveryCount is one subscription's result.
type DeliveryCount struct {
	Subscription             string
	Expected, Repeated, Dead int
	Cancelled                int
	Median, Longest          time.Duration // from COMMIT to the first acceptance
}

// judge fills in the report.
func (r *Report) judge(w *world, t *truth) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Violations = append(r.Violations, w.failures...)
	r.Violations = append(r.Violations, t.wrong...)
	r.Violations = append(r.Violations, w.look.violations(t)...)
	for _, yes := range t.vanished {
		if yes {
			r.Vanished++
		}
	}
	r.Messages, r.Transactions, r.RolledBack, r.Unknown = len(t.messages), t.transactions, t.rolledBack, t.unknown
	r.PeakMemory, r.Looked, r.SlowestInsert, r.Reused = w.peak, w.look.looked, w.apps.slowest, w.reused
	r.Violations = append(r.Violations, w.apps.unexplained(w.incidents)...)
	e := &evidence{truth: t, incidents: w.incidents, reach: saveReach, until: w.apps.history.awaited}
	for _, s := range w.subs {
		f := e.judge(s.Expectation, s.book.all())
		r.Violations = append(r.Violations, f.violations...)
		r.Violations = append(r.Violations, s.book.oddities()...)
		r.Violations = append(r.Violations, t.judgeSpared(s.Name, s.book.all())...)
		if s.Name == effects {
			r.Violations = append(r.Violations, e.judgeUnique(s.book.all())...)
		}
		r.Deliveries = append(r.Deliveries, f.count())
	}
	if w.db.hasLedger {
		violations, missed := t.judgeSchedules(w.apps.history.firedUntil)
		r.Violations = append(append(r.Violations, violations...), t.judgeEvents(missed)...)
	}
	if w.db.hasLedger && w.hasWorkers() {
		r.Violations = append(r.Violations, w.crew.runs.judge(t, w.settledByWorkers(t), w.crew.effects)...)
	}
	r.count(w.incidents)
}

func (f *finding) count() DeliveryCount {
	c := DeliveryCount{Subscription: f.subscription, Expected: f.expected, Repeated: f.repeated, Dead: f.dead, Cancelled: f.cancelled, Longest: f.longest}
	if slices.Sort(f.latencies); len(f.latencies) > 0 {
		c.Median = f.latencies[len(f.latencies)/2]
	}
	return c
}

func (r *Report) count(incidents []Incident) {
	counts := make(map[string]*FaultCount)
	for _, i := range incidents {
		c := counts[i.Fault]
		if c == nil {
			c = &FaultCount{Name: i.Fault, About: faultNamed(i.Fault).About}
			counts[i.Fault] = c
		}
		c.Times++
		c.Lasted += i.To.Sub(i.From)
	}
	for _, c := range counts {
		r.Faults = append(r.Faults, *c)
	}
	slices.SortFunc(r.Faults, func(a, b FaultCount) int { return cmp.Compare(a.Name, b.Name) })
}

// shown is how many violations the table shows.
const shown = 25

// Write prints the report as tables.
func (r *Report) Write(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nfault\ttimes\tlasted\t\n")
	for _, f := range r.Faults {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", f.Name, f.Times, f.Lasted.Round(time.Millisecond), f.About)
	}
	fmt.Fprintf(t, "\nsubscription\tmessages\trepeated\tdead\tcancelled\tmedian\tlongest stall\n")
	for _, d := range r.Deliveries {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%s\n", d.Subscription, d.Expected, d.Repeated, d.Dead, d.Cancelled,
			d.Median.Round(10*time.Microsecond), d.Longest.Round(time.Millisecond))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%s%d messages in %d transactions, of which %d rolled back and %d had their answer lost.\n"+
		"Peak memory of a relay %.0f MiB, slowest insert %v, %d arrivals looked up at once.\n%s",
		describeDestinations(r.Destinations, r.LeftOut), r.Messages, r.Transactions, r.RolledBack, r.Unknown, r.PeakMemory/(1<<20), r.SlowestInsert.Round(time.Millisecond), r.Looked, r.verdict())
	return err
}

func (r *Report) verdict() string {
	if len(r.Violations) == 0 {
		return "Nothing lost, nothing invented, no key out of order, nothing repeated without a reason, nothing left behind.\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d VIOLATIONS\n", len(r.Violations))
	for _, v := range r.Violations[:min(shown, len(r.Violations))] {
		fmt.Fprintf(&b, "  %s\n", v)
	}
	fmt.Fprintf(&b, "SEED=%d repeats this round's faults.\n", r.Seed)
	return b.String()
}
