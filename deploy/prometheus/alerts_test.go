package prometheus

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
)

var promQL = parser.NewParser(parser.Options{})

// definitions are the rules as the file has them.
func definitions(t *testing.T) (list []rulefmt.Rule) {
	t.Helper()
	groups, errs := rulefmt.ParseFile("postrider.rules.yml", false, model.UTF8Validation, promQL, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Fatal(err)
	}
	for _, g := range groups.Groups {
		list = append(list, g.Rules...)
	}
	return list
}

func newEngine(t *testing.T) *promql.Engine {
	t.Helper()
	e := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: promQL})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// alarm evaluates the rules as Prometheus does, and notes which have fired, with the subscription that they are about.
type alarm struct {
	t        *testing.T
	timeline *timeline
	rules    []*rules.AlertingRule
	query    rules.QueryFunc
	fired    map[string]string // what it said, by the rule and the subscription
}

func newAlarm(t *testing.T, l *timeline) *alarm {
	t.Helper()
	a := &alarm{t: t, timeline: l, query: rules.EngineQueryFunc(newEngine(t), l), fired: map[string]string{}}
	for _, d := range definitions(t) {
		expr, err := promQL.ParseExpr(d.Expr)
		if err != nil {
			t.Fatal(err)
		}
		a.rules = append(a.rules, rules.NewAlertingRule(d.Alert, expr, time.Duration(d.For), time.Duration(d.KeepFiringFor), labels.FromMap(d.Labels), labels.FromMap(d.Annotations),
			labels.EmptyLabels(), "", false, slog.New(slog.DiscardHandler)))
	}
	return a
}

// look evaluates all rules once.
func (a *alarm) look() {
	a.t.Helper()
	for _, r := range a.rules {
		if _, err := r.Eval(context.Background(), 0, a.timeline.now, a.query, &url.URL{}, 0); err != nil {
			a.t.Fatalf("%s: %v", r.Name(), err)
		}
		r.ForEachActiveAlert(func(one *rules.Alert) {
			if one.State != rules.StateFiring {
				return
			}
			if text := one.Annotations.Get("summary") + " – " + one.Annotations.Get("description"); a.fired[name(r, one)] == "" {
				a.fired[name(r, one)] = text
			}
		})
	}
}

func name(r *rules.AlertingRule, one *rules.Alert) string {
	if s := one.Labels.Get("subscription"); s != "" {
		return r.Name() + " " + s
	}
	return r.Name()
}

func (a *alarm) expect(when string, want ...string) {
	a.t.Helper()
	slices.Sort(want)
	if have := slices.Sorted(maps.Keys(a.fired)); !slices.Equal(have, want) {
		for _, one := range have {
			a.t.Logf("%s: %s", one, a.fired[one])
		}
		a.t.Errorf("%s: %q have fired, want %q", when, have, want)
	}
	for one, text := range a.fired {
		if strings.Contains(text, "error expanding") || strings.Contains(text, "<no value>") || strings.Contains(text, "{{") {
			a.t.Errorf("%s says: %s", one, text)
		}
	}
}

// written is a page in which some values are others, by metric, or by metric and subscription.
func (p page) written(values map[string]float64) page {
	changed := maps.Clone(p)
	for key, s := range changed {
		metric := s.labels.Get(model.MetricNameLabel)
		for _, name := range []string{metric, metric + " " + s.labels.Get("subscription")} {
			if v, ok := values[name]; ok {
				s.value = v
				changed[key] = s
			}
		}
	}
	return changed
}

// Every alert fires for what it is about and for nothing else, by what a relay tells when that happens; and none while all is well.
func TestAlerts(t *testing.T) {
	r, before, after := healthy(t)
	first, later := r.troubles(t)
	dashboardShows(t, stage{before, after, 20 * time.Minute}, stage{first, later, 20 * time.Minute})
	r.stop()
	judge(t, before, after, first, later, r.scrape(t))
}

// judge plays what a relay has told, as if it had gone on for hours, and wants each alert when it is due and no other.
func judge(t *testing.T, before, after, first, later, silence page) {
	t.Helper()
	l := newTimeline(t, time.Now().Add(-2*time.Hour))
	a := newAlarm(t, l)
	l.play(t, stage{before, after, time.Hour}, a.look)
	l.play(t, stage{after, after, time.Hour}, a.look)
	a.expect("while all is well")

	unasked := map[string]float64{"postrider_intake_stopped unasked": 1} // as a relay says after a minute
	l.play(t, stage{first.written(unasked), later.written(unasked), 90 * time.Minute}, a.look)
	a.expect("when everything goes wrong", "PostriderDestinationDown down", "PostriderDestinationMisconfigured misconfigured", "PostriderLagGrows reports",
		"PostriderDeadLetters dead", "PostriderSubscriptionPaused paused", "PostriderSubscriptionPaused rests", "PostriderIntakeStopped stuck", "PostriderJobsWait unasked", "PostriderNobodyDelivers lacking",
		"PostriderNotReady", "PostriderSavesFail", "PostriderSlotHoldsWAL", "PostriderSegmentsNotEmptied", "PostriderOutboxRingFull", "PostriderScheduleMissed",
		"PostriderSchedulesNotFired", "PostriderRelayLacksSomething")
	if text := a.fired["PostriderSegmentsNotEmptied"]; !regexp.MustCompile(`are held by( \w+ \(16\)){3}\.`).MatchString(text) {
		t.Errorf("it does not say who holds segments: %s", text)
	}

	shrunk := later.written(map[string]float64{"postrider_lag_seconds": 400})
	l.play(t, stage{later, shrunk, 30 * time.Minute}, a.look)
	clear(a.fired)
	l.play(t, stage{shrunk, shrunk, 15 * time.Minute}, a.look)
	if text, fired := a.fired["PostriderLagGrows reports"]; fired {
		t.Errorf("of a lag that shrinks: %s", text)
	}

	l.play(t, stage{silence, silence, 30 * time.Minute}, a.look) // until what was before is over
	clear(a.fired)
	l.play(t, stage{silence, silence, 10 * time.Minute}, a.look)
	a.expect("without a relay", "PostriderNoRelay", "PostriderRelayDown")

	clear(a.fired)
	l.play(t, stage{after, after, 30 * time.Minute}, func() {})
	clear(a.fired)
	now := float64(l.now.Unix())
	l.play(t, stage{after.written(map[string]float64{"postrider_status_age_seconds": 1000, "postrider_memory_used_bytes": 62 << 20 / 5,
		"postrider_jobs mail": 5, "postrider_job_last_take_timestamp_seconds mail": now, "postrider_parked_total dead": 0, "postrider_parked_messages reports": 0,
	}), after.written(map[string]float64{"postrider_status_age_seconds": 1000, "postrider_memory_used_bytes": 62 << 20 / 5,
		"postrider_jobs mail": 5, "postrider_job_last_take_timestamp_seconds mail": now + 1800, "postrider_parked_total dead": 5, "postrider_parked_messages reports": 5,
	}), 30 * time.Minute}, a.look)
	a.expect("when it cannot look, its memory is full, workers take jobs and some die", "PostriderMemoryNearLimit", "PostriderStatusUnknown", "PostriderDeadLetters dead", "PostriderDeadLetters reports")
}

// The Compose file's Prometheus is the one whose packages read its configuration and evaluate the rules here.
func TestConfiguration(t *testing.T) {
	c, err := config.LoadFile("prometheus.yml", false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.RuleFiles, []string{"postrider.rules.yml"}) {
		t.Errorf("it reads rules from %q", c.RuleFiles)
	}
	module, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	compose, err := os.ReadFile("../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`github.com/prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)\n`).FindSubmatch(module)
	if m == nil {
		t.Fatal("go.mod has no version of Prometheus")
	}
	minor := strings.TrimPrefix(string(m[2]), "0")
	if image := fmt.Sprintf("prom/prometheus:v%s.%s.%s\n", m[1], minor, m[3]); !strings.Contains(string(compose), image) {
		t.Errorf("the Compose file does not have %s", image)
	}
}

// Every alert has a severity, and says in a section of the page on metrics what is to be done.
func TestAlertsAreExplained(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^### (Postrider\w+)$`).FindAllStringSubmatch(string(text), -1) {
		sections[m[1]] = true
	}
	for _, d := range definitions(t) {
		if s := d.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has severity %q, must be critical or warning", d.Alert, s)
		}
		if want := "https://github.com/postrider/postrider/blob/main/docs/metrics.md#" + strings.ToLower(d.Alert); d.Annotations["runbook_url"] != want || !sections[d.Alert] {
			t.Errorf("%s: the page on metrics has no section of it, or it does not lead to %s", d.Alert, want)
		}
		if d.Annotations["summary"] == "" || d.Annotations["description"] == "" {
			t.Errorf("%s does not say what is wrong, or what to do", d.Alert)
		}
		delete(sections, d.Alert)
	}
	for section := range sections {
		t.Errorf("the page on metrics explains %s, and there is no such alert", section)
	}
}
