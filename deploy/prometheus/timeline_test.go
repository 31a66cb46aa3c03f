package prometheus

import (
	"errors"
	"io"
	"math"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
)

// scrapeEvery is how far apart samples are.
const scrapeEvery = 15 * time.Second

// page is what a scrape has brought, by series; nil: the relay could not be scraped.
type page map[string]sample

type sample struct {
	labels labels.Labels
	value  float64
}

// parse reads a page as Prometheus does.
func parse(t *testing.T, text []byte) page {
	t.Helper()
	p := page{}
	parser := textparse.NewPromParser(text, labels.NewSymbolTable(), false)
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatalf("a page cannot be read: %v", err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, v := parser.Series()
		var of labels.Labels
		parser.Labels(&of)
		p[of.String()] = sample{of, v}
	}
}

// of returns the value of the series that has all these labels, in pairs, and whether there is one.
func (p page) of(name string, pairs ...string) (float64, bool) {
	for _, s := range p {
		matches := s.labels.Get(model.MetricNameLabel) == name
		for i := 0; i < len(pairs); i += 2 {
			matches = matches && s.labels.Get(pairs[i]) == pairs[i+1]
		}
		if matches {
			return s.value, true
		}
	}
	return 0, false
}

// stage is a while in which what is told changes evenly from one page to another.
type stage struct {
	from, to page
	lasts    time.Duration
}

// at returns the value of a series after a part of the stage.
func (s *stage) at(key string, part float64) float64 {
	first := s.from[key].value
	if last, ok := s.to[key]; ok {
		return first + (last.value-first)*part
	}
	return first
}

// timeline is what Prometheus has stored after some stages, as scrapes of one relay.
type timeline struct {
	*teststorage.TestStorage
	now  time.Time
	last map[string]labels.Labels // the series that the last scrape has brought
}

func newTimeline(t *testing.T, begin time.Time) *timeline {
	t.Helper()
	return &timeline{TestStorage: teststorage.New(t), now: begin, last: map[string]labels.Labels{}}
}

// play stores the stage's scrapes, and calls after each.
func (l *timeline) play(t *testing.T, s stage, each func()) {
	t.Helper()
	for passed := time.Duration(0); passed < s.lasts; passed += scrapeEvery {
		l.scrape(t, &s, float64(passed)/float64(s.lasts))
		each()
		l.now = l.now.Add(scrapeEvery)
	}
}

func (l *timeline) scrape(t *testing.T, s *stage, part float64) {
	t.Helper()
	app := l.Appender(t.Context())
	put := func(of labels.Labels, v float64) {
		if _, err := app.Append(0, of, l.now.UnixMilli(), v); err != nil {
			t.Fatalf("%s: %v", of, err)
		}
	}
	up, seen := 0.0, map[string]labels.Labels{}
	if s.from != nil {
		up = 1
	}
	put(target(labels.FromStrings(model.MetricNameLabel, "up")), up)
	for key, one := range s.from {
		of := target(one.labels)
		put(of, s.at(key, part))
		seen[key] = of
	}
	for key, of := range l.last { // what is not told any more ends at once
		if _, still := seen[key]; !still {
			put(of, math.Float64frombits(value.StaleNaN))
		}
	}
	l.last = seen
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

// target adds what Prometheus adds.
func target(of labels.Labels) labels.Labels {
	return labels.NewBuilder(of).Set("job", "postrider").Set("instance", "relay:8480").Labels()
}

var _ storage.Queryable = (*timeline)(nil)
