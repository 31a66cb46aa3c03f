package torture

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// contains fails unless there is one violation that contains want, or none if that is empty.
func contains(t *testing.T, name string, got []string, want string) {
	t.Helper()
	if want == "" && len(got) > 0 || want != "" && !strings.Contains(strings.Join(got, "\n"), want) {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

// did is a step of a schedule, by seconds.
func did(seconds float64, what, missed string, from float64) scheduleStep {
	cron := "* * * * *"
	s := scheduleStep{At: at(seconds), Name: "s", What: what, Cron: &cron, Missed: &missed}
	if from > -1e6 {
		f := at(from)
		s.From = &f
	}
	return s
}

const stays = -1e9 // the next run

// minutes are runs at these minutes, fired some seconds after the start.
func minutes(seconds float64, of ...int) firing {
	f := firing{at: at(seconds)}
	for _, m := range of {
		f.runs = append(f.runs, epoch.Add(time.Duration(m)*time.Minute))
	}
	return f
}

func TestScheduleVerdicts(t *testing.T) {
	removed := scheduleStep{At: at(70), Name: "s", What: "remove"}
	behind := did(1, "put", "last", -250) // minutes -4 to 0 are due
	for name, c := range map[string]struct {
		steps []scheduleStep
		fired []firing
		until float64
		want  string
	}{
		"last":                       {[]scheduleStep{behind}, []firing{minutes(2, 0), minutes(61, 1)}, 100, ""},
		"all of last":                {[]scheduleStep{behind}, []firing{minutes(2, -1, 0), minutes(61, 1)}, 100, "and not for"},
		"all":                        {[]scheduleStep{did(1, "put", "all(3)", -250)}, []firing{minutes(2, -2, -1, 0), minutes(61, 1)}, 100, ""},
		"one less of all":            {[]scheduleStep{did(1, "put", "all(3)", -250)}, []firing{minutes(2, -1, 0)}, 30, "and not for"},
		"not the newest":             {[]scheduleStep{did(1, "put", "all(3)", -250)}, []firing{minutes(2, -3, -2, 0)}, 30, "and not for"},
		"skipped":                    {[]scheduleStep{did(1, "put", "skip", -250)}, []firing{minutes(61, 1)}, 100, ""},
		"in time and not skipped":    {[]scheduleStep{did(1, "put", "skip", -250)}, []firing{minutes(2, 0), minutes(61, 1)}, 100, ""},
		"skipped while all was well": {[]scheduleStep{did(1, "put", "skip", -250)}, nil, 100, "never fired for 00:01:00"},
		"never":                      {[]scheduleStep{behind}, []firing{minutes(2, 0)}, 100, "never fired for 00:01:00"},
		"twice":                      {[]scheduleStep{behind}, []firing{minutes(2, 0), minutes(2.5, 0), minutes(61, 1)}, 100, "twice"},
		"a live run left out":        {[]scheduleStep{behind}, []firing{minutes(2, 0), minutes(121, 2)}, 130, "nothing was down"},
		"before its time":            {[]scheduleStep{behind}, []firing{minutes(2, 1)}, 3, "before its time"},
		"paused":                     {[]scheduleStep{behind, did(3, "pause", "last", stays)}, []firing{minutes(2, 0), minutes(61, 1)}, 100, "while it was paused"},
		"a pause":                    {[]scheduleStep{behind, did(3, "pause", "last", stays), did(70, "resume", "last", 69.9)}, []firing{minutes(2, 0), minutes(121, 2)}, 130, ""},
		"a pause made up for":        {[]scheduleStep{behind, did(3, "pause", "last", stays), did(70, "resume", "last", stays)}, []firing{minutes(2, 0), minutes(71, 1)}, 72, "twice, or never due"},
		"removed":                    {[]scheduleStep{behind, removed}, []firing{minutes(2, 0), minutes(61, 1)}, 300, ""},
		"fired after its removal":    {[]scheduleStep{behind, removed}, []firing{minutes(2, 0), minutes(61, 1), minutes(121, 2)}, 300, "removed"},
		"no such schedule":           {nil, []firing{minutes(2, 0)}, 300, "no such schedule"},
	} {
		tr := &truth{}
		tr.steps = c.steps
		for i, f := range c.fired {
			for _, run := range f.runs {
				tr.log = append(tr.log, logRow{At: f.at, XID: int64(i + 1), Row: int64(len(tr.log)), Schedule: "s", Planned: run})
			}
		}
		got, _ := tr.judgeSchedules(at(c.until))
		contains(t, name, got, c.want)
	}
	one, ran := int64(7), scheduleStep{At: at(3), Name: "s", What: "ran"}
	ran.Message = &one
	tr := &truth{}
	tr.steps = []scheduleStep{behind, ran}
	tr.log = []logRow{{At: at(2), XID: 1, Row: 6, Schedule: "s", Planned: at(0)}, {At: at(3), XID: 2, Row: 7, Schedule: "s", Planned: at(3)}}
	got, missed := tr.judgeSchedules(at(30))
	contains(t, "by hand", got, "")
	if missed["s"] != 1 {
		t.Errorf("%d times runs were lost, want once", missed["s"])
	}
	tr.log = tr.log[:1]
	got, _ = tr.judgeSchedules(at(30))
	contains(t, "by hand, and lost", got, "is not in the log")
}

func TestUniqueVerdicts(t *testing.T) {
	once, span, latest := uniqueScopes[0], uniqueScopes[1], uniqueScopes[2]
	asked := func(id int64, seconds float64, s uniqueScope, row int64, duplicate bool) uniqueCall {
		return uniqueCall{id: id, key: s.name, scope: s, from: at(seconds), row: row, duplicate: duplicate}
	}
	replaces := func(c uniqueCall) uniqueCall { c.replace = true; return c }
	row := func(n, id int64, seconds float64) logRow {
		return logRow{N: n, Row: n, At: at(seconds), messageID: id}
	}
	cut := []Incident{{Fault: "cut", From: at(4), To: at(8), Hits: onNetwork}}
	for name, c := range map[string]struct {
		calls     []uniqueCall
		log       []logRow
		arrivals  []Arrival
		incidents []Incident
		want      string
	}{
		"one":                     {[]uniqueCall{asked(1, 1, once, 1, false), asked(2, 1.5, once, 1, true)}, []logRow{row(1, 1, 1)}, arrived(2, 1), nil, ""},
		"new and lost":            {[]uniqueCall{asked(1, 1, once, 1, false)}, nil, nil, nil, "never held"},
		"another one's":           {[]uniqueCall{asked(1, 1, once, 1, false), asked(2, 1, once, 1, false)}, []logRow{row(1, 1, 1)}, arrived(2, 1), nil, "answered to be new"},
		"two standing":            {[]uniqueCall{asked(1, 1, once, 1, false), asked(2, 1.5, once, 2, false)}, []logRow{row(1, 1, 1), row(2, 2, 1.6)}, arrived(2, 1, 2), nil, "was standing"},
		"one after the other":     {[]uniqueCall{asked(1, 1, once, 1, false), asked(2, 3, once, 2, false)}, []logRow{row(1, 1, 1), row(2, 2, 3)}, join(arrived(2, 1), arrived(4, 2)), nil, ""},
		"a duplicate lost":        {[]uniqueCall{asked(1, 1, once, 1, false), asked(2, 2.5, once, 1, true)}, []logRow{row(1, 1, 1)}, arrived(2, 1), nil, "nothing was delivered after that"},
		"a duplicate again":       {[]uniqueCall{asked(1, 1, once, 1, false), asked(2, 2.5, once, 1, true)}, []logRow{row(1, 1, 1), row(2, 2, 3)}, join(arrived(2, 1), arrived(4, 2)), nil, ""},
		"again, and again":        {[]uniqueCall{asked(1, 1, once, 1, false), asked(2, 2.5, once, 1, true)}, []logRow{row(1, 1, 1), row(2, 2, 3), row(3, 2, 6)}, join(arrived(2, 1), arrived(4, 2)), nil, "enqueued twice"},
		"another one instead":     {[]uniqueCall{asked(1, 1, once, 1, false), asked(2, 2.5, once, 1, true), asked(3, 5, once, 2, false)}, []logRow{row(1, 1, 1), row(2, 3, 5)}, join(arrived(2, 1), arrived(6, 3)), nil, "not enqueued again"},
		"within the time":         {[]uniqueCall{asked(1, 1, span, 1, false), asked(2, 1.5, span, 2, false)}, []logRow{row(1, 1, 1), row(2, 2, 1.5)}, arrived(2, 1, 2), nil, "within 500ms"},
		"after the time":          {[]uniqueCall{asked(1, 1, span, 1, false), asked(2, 2, span, 2, false)}, []logRow{row(1, 1, 1), row(2, 2, 2)}, arrived(2, 1, 2), nil, ""},
		"taken for too long":      {[]uniqueCall{asked(1, 1, span, 1, false), asked(2, 9, span, 1, true)}, []logRow{row(1, 1, 1)}, arrived(2, 1), nil, "the key was taken at"},
		"replaced":                {[]uniqueCall{asked(1, 1, latest, 1, false), replaces(asked(2, 2, latest, 2, false))}, []logRow{row(1, 1, 1), row(2, 2, 2)}, arrived(4, 2), nil, ""},
		"replaced, and out":       {[]uniqueCall{asked(1, 1, latest, 1, false), replaces(asked(2, 2, latest, 2, false))}, []logRow{row(1, 1, 1), row(2, 2, 2)}, arrived(2.5, 1, 2), nil, ""},
		"replaced in vain":        {[]uniqueCall{asked(1, 1, latest, 1, false), replaces(asked(2, 2, latest, 2, false))}, []logRow{row(1, 1, 1), row(2, 2, 2)}, arrived(7, 1, 2), nil, "was superseded"},
		"replaced while blind":    {[]uniqueCall{asked(1, 1, latest, 1, false), replaces(asked(2, 2, latest, 2, false))}, []logRow{row(1, 1, 1), row(2, 2, 2)}, arrived(7, 1, 2), cut, ""},
		"a duplicate of the last": {[]uniqueCall{asked(1, 1, latest, 1, false), replaces(asked(2, 1.5, latest, 1, true))}, []logRow{row(1, 1, 1)}, arrived(2, 1), nil, "was to replace"},
	} {
		tr := &truth{}
		tr.calls, tr.log, tr.committed = c.calls, c.log, make(map[int64]time.Time)
		for _, call := range c.calls {
			tr.committed[call.id] = call.from.Add(100 * time.Millisecond)
		}
		contains(t, name, (&evidence{truth: tr, incidents: c.incidents}).judgeUnique(c.arrivals), c.want)
	}
}

func TestResultVerdicts(t *testing.T) {
	r := &runs{list: []run{{"a", true}, {"a", false}, {"b", true}}}
	first, second := 1, 2
	both := map[string]map[string]bool{pulled: {"a": true}, taken: {"b": true}}
	good := []kept{{pulled, "a", 1, 1, &first}, {taken, "b", 3, 1, nil}}
	with := func(k kept) []kept { return append(slices.Clone(good), k) }
	for name, c := range map[string]struct {
		results []kept
		want    string
	}{
		"all is well":      {good, ""},
		"none":             {good[:1], "taken: message b was settled without its result"},
		"of nobody":        {with(kept{pulled, "a", 9, 1, &first}), "there was none"},
		"of another":       {with(kept{pulled, "b", 1, 1, &first}), "is that of a"},
		"of a failure":     {with(kept{pulled, "a", 2, 2, &second}), "was not done"},
		"of what was late": {with(kept{pulled, "a", 1, 1, nil}), "settled was none"},
		"of an earlier":    {with(kept{pulled, "a", 1, 1, &second}), "settled was attempt 2"},
		"twice":            {with(kept{taken, "b", 3, 1, nil}), "twice"},
		"without effects":  {with(kept{taken, "a", 1, 1, nil}), "its effects are of run 0"},
	} {
		contains(t, name, r.judge(&truth{ledger: ledger{results: c.results}}, both, map[string]int64{"b": 3}), c.want)
	}
}

func TestEventVerdicts(t *testing.T) {
	told := func(event, subject string, count, messages int) logRow {
		list := make([]int, messages)
		text, err := json.Marshal(map[string]any{"event": event, "subscription": subject, "count": count, "messages": list})
		if err != nil {
			t.Fatal(err)
		}
		return logRow{Topic: fmt.Sprintf("$postrider.%s.%s", event, subject), Key: subject, Payload: text}
	}
	happened := []happening{{"dead", "a", "", false, 12}, {"dead", alerts, "", true, 3}, {"down", "a", "0/1", false, 2}, {"down", "a", "0/2", false, 2}}
	good := []logRow{told("dead", "a", 11, 10), told("down", "a", 2, 0)}
	rest := []waiting{{"dead", "a", 1}}
	for name, c := range map[string]struct {
		log     []logRow
		waiting []waiting
		want    string
	}{
		"all is well":     {good, rest, ""},
		"one is left out": {good, nil, "dead.a: 12 happened, 11 were told"},
		"one too many":    {append(slices.Clone(good), told("dead", "a", 1, 1)), rest, "12 happened, 13 were told"},
		"of themselves":   {append(slices.Clone(good), told("dead", alerts, 1, 1)), rest, "nothing happened"},
		"names too few":   {append(slices.Clone(good[1:]), told("dead", "a", 11, 9)), rest, "names 9"},
		"of another":      {append(slices.Clone(good), logRow{Topic: "$postrider.up.b", Key: "b", Payload: good[1].Payload}), rest, "says"},
	} {
		contains(t, name, (&truth{ledger: ledger{log: c.log, waiting: c.waiting, happened: happened}}).judgeEvents(nil), c.want)
	}
}

// What an operation that was to cancel has left alone must have been on its way by then.
func TestOperationVerdicts(t *testing.T) {
	tr := &truth{ledger: ledger{spared: []spared{{"loose", 1, 5, at(10)}}}}
	for name, c := range map[string]struct {
		subscription string
		arrivals     []Arrival
		want         string
	}{
		"never came":                   {"loose", nil, ""},
		"on its way":                   {"loose", join(refused(9, 1), arrived(12, 1)), ""},
		"after the operation":          {"loose", arrived(12, 1), "had ended at 00:00:10.000"},
		"of another subscription":      {"victim", arrived(12, 1), ""},
		"that nobody wanted cancelled": {"loose", arrived(12, 2), ""},
	} {
		contains(t, name, tr.judgeSpared(c.subscription, c.arrivals), c.want)
	}
}
