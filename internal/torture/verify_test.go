package torture

import (
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }

// story is five committed messages of one key, one without, and one poison message between messages of its key.
func story() *evidence {
	t := &truth{messages: map[int64]Message{}, ended: map[int64]time.Time{}}
	for _, m := range []Message{
		{ID: 1, Topic: "a", Key: "k", Order: 1}, {ID: 2, Topic: "a", Key: "k", Order: 2}, {ID: 3, Topic: "a", Key: "k", Order: 5},
		{ID: 4, Topic: "a"},
		{ID: 5, Topic: "a", Key: "p", Order: 1}, {ID: 6, Topic: "a", Key: "p", Order: 2, Poison: true}, {ID: 7, Topic: "a", Key: "p", Order: 3},
		{ID: 8, Topic: "b"},
	} {
		t.messages[m.ID], t.ended[m.ID] = m, at(0)
	}
	t.vanished = map[int64]bool{9: false, 10: true}
	t.cancelled = map[string]map[int64]time.Time{"late": {4: at(5.5)}}
	return &evidence{truth: t, reach: time.Second, incidents: []Incident{
		{Fault: "kill", From: at(10), To: at(11), Repeats: []string{"*"}},
		{Fault: "stop", From: at(20), To: at(21)},
		{Fault: "publication", From: at(40), To: at(41), Reorders: true},
	}}
}

func arrived(seconds float64, ids ...int64) (list []Arrival) {
	for i, id := range ids {
		list = append(list, Arrival{ID: id, Wire: idString(id), At: at(seconds + float64(i)/100), Accepted: true})
	}
	return list
}

func refused(seconds float64, id int64) []Arrival {
	return []Arrival{{ID: id, Wire: idString(id), At: at(seconds)}}
}

func join(parts ...[]Arrival) (all []Arrival) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestVerdicts(t *testing.T) {
	plain := Expectation{Name: "s", Matches: func(m Message) bool { return m.Topic == "a" }}
	holds, once, unordered := plain, plain, plain
	holds.Holds, once.Once, unordered.Unordered = true, true, true
	good := join(arrived(1, 1, 2, 3, 4, 5), refused(1.5, 6), arrived(2, 7))
	otherID := arrived(10.5, 4)
	otherID[0].Wire = "another"
	sameID := arrived(1, 1, 2, 3, 4, 5, 7)
	sameID[1].Wire = sameID[0].Wire
	late := plain
	late.Name, late.Late = "late", time.Second
	for name, c := range map[string]struct {
		x        Expectation
		arrivals []Arrival
		want     string // "": no violation
	}{
		"cancelled, and never came":           {late, arrived(1, 1, 2, 3, 5, 7), ""},
		"cancelled while it was on its way":   {late, join(arrived(1, 1, 2, 3, 5, 7), arrived(6, 4)), ""},
		"cancelled, and came all the same":    {late, join(arrived(1, 1, 2, 3, 5, 7), arrived(6.6, 4)), "cancelled at 00:00:05.500: message 0.4"},
		"cancelled, and offered":              {late, join(arrived(1, 1, 2, 3, 5, 7), refused(7, 4)), "cancelled at 00:00:05.500: message 0.4"},
		"all is well":                         {plain, good, ""},
		"refused first, accepted later":       {plain, join(refused(0, 1), good), ""},
		"lost":                                {plain, arrived(1, 1, 2, 3, 5, 7), "lost: message 0.4"},
		"refused for good":                    {plain, join(refused(0, 4), arrived(1, 1, 2, 3, 5, 7)), "lost: message 0.4"},
		"rolled back":                         {plain, join(good, arrived(3, 9)), "rolled back: message 0.9"},
		"another topic":                       {plain, join(good, arrived(3, 8)), "do not match: message 0.8"},
		"poison accepted":                     {plain, arrived(1, 1, 2, 3, 4, 5, 6, 7), "every receiver refuses"},
		"swapped":                             {plain, arrived(1, 2, 1, 3, 4, 5, 7), "out of order: message 0.2"},
		"swapped where it is excused":         {plain, arrived(42, 2, 1, 3, 4, 5, 7), ""},
		"swapped too late":                    {plain, arrived(43.5, 2, 1, 3, 4, 5, 7), "out of order: message 0.2"},
		"skipped where order is excused":      {plain, arrived(42, 2, 3, 4, 5, 7), "lost: message 0.1"},
		"vanished with its server":            {plain, join(good, arrived(3, 10)), ""},
		"offered too early":                   {plain, join(refused(0, 2), good), "out of order: message 0.2"},
		"swapped where no order was promised": {unordered, arrived(1, 2, 1, 3, 4, 5, 7), ""},
		"held":                                {holds, arrived(1, 1, 2, 3, 4, 5), ""},
		"not held":                            {holds, good, "although a dead letter holds its key"},
		"repeated after a kill":               {plain, join(good, arrived(9.5, 4), arrived(12, 4)), "repeated: message 0.4"}, // the first repeat has no excuse
		"saved too late":                      {plain, join(good, arrived(12, 1, 2, 3)), "repeated: message 0.1"},
		"another id":                          {plain, join(good, otherID), "came as"},
		"shared id":                           {plain, sameID, "the same id"},
		"twice where nothing comes twice":     {once, join(good, arrived(10.5, 4)), "repeated: message 0.4"},
	} {
		got := story().judge(c.x, c.arrivals).violations
		if c.want == "" && len(got) > 0 || c.want != "" && !strings.Contains(strings.Join(got, "\n"), c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A duplicate that was enqueued, delivered and lost with its primary is enqueued once more, under another id. Nothing else is.
func TestIDsAfterAPromotion(t *testing.T) {
	x := Expectation{Name: "s", Matches: func(m Message) bool { return m.Topic == "a" }}
	for name, c := range map[string]struct {
		duplicate, replaced bool
		fault               string
		first, again        float64
		want                int
	}{
		"lost with its primary":           {true, true, "promote", 9.5, 12, 0},
		"a message of its own":            {false, true, "promote", 9.5, 12, 1},
		"nothing was promoted":            {true, false, "promote", 9.5, 12, 1},
		"a crash, from which all is back": {true, true, "crash", 9.5, 12, 1},
		"both before the promotion":       {true, true, "promote", 9.4, 9.6, 1},
		"both after it":                   {true, true, "promote", 13.5, 14, 1},
	} {
		e := story()
		e.reach = time.Minute // repeats are not what this is about
		e.incidents = []Incident{{Fault: c.fault, From: at(10), To: at(11), Repeats: []string{"*"}}}
		e.truth.calls, e.truth.replaced = []uniqueCall{{id: 4, duplicate: c.duplicate}, {id: 1, duplicate: true}}, c.replaced
		again := arrived(c.again, 4)
		again[0].Wire = "another"
		got := e.judge(x, join(arrived(1, 1, 2, 3, 5, 7), arrived(c.first, 4), again)).violations
		if len(got) != c.want || c.want == 1 && !strings.Contains(got[0], "came as 0.4 and as another") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A delivery shortly before a kill may be repeated, one shortly before a clean stop may not.
func TestExcuses(t *testing.T) {
	x := Expectation{Name: "s", Matches: func(m Message) bool { return m.Topic == "a" }}
	rest := arrived(1, 1, 2, 3, 5, 7)
	for name, c := range map[string]struct {
		first, again float64
		violations   int
	}{
		"unsaved":     {9.5, 12, 0},
		"during":      {10.5, 12, 0},
		"saved":       {8.5, 12, 1},
		"clean stop":  {19.5, 22, 1},
		"long after":  {30, 31, 1},
		"much later":  {10.5, 30, 0}, // a pass that catches up may come late
		"at its edge": {9, 12, 0},
	} {
		got := story().judge(x, join(rest, arrived(c.first, 4), arrived(c.again, 4)))
		if len(got.violations) != c.violations || got.repeated != 1 {
			t.Errorf("%s: %q, %d repeated", name, got.violations, got.repeated)
		}
	}
}

func TestProducersAndDatabaseMustAgree(t *testing.T) {
	h := &history{}
	for _, a := range []answer{answerCommitted, answerCommitted, answerRolledBack, answerRolledBack, answerLost, answerLost} {
		tx := h.begin()
		tx.messages, tx.server = []Message{{ID: tx.number * txMessages}}, "old"
		h.end(tx, a)
	}
	truth := h.settle(map[int64]bool{1: true, 4: true, 5: true}, "")
	if len(truth.messages) != 3 || truth.unknown != 2 || truth.rolledBack != 3 {
		t.Errorf("%+v", truth)
	}
	if len(truth.wrong) != 2 {
		t.Errorf("%q, want one for the second and one for the fourth", truth.wrong)
	}
	if replaced := h.settle(map[int64]bool{1: true}, "old"); len(replaced.wrong) != 0 || len(vanished(replaced)) != 3 {
		t.Errorf("%q, vanished %v", replaced.wrong, vanished(replaced))
	}
	if other := h.settle(map[int64]bool{1: true}, "other"); len(other.wrong) != 1 || len(vanished(other)) != 0 {
		t.Errorf("%q, vanished %v", other.wrong, vanished(other))
	}
}

func vanished(t *truth) (ids []int64) {
	for id, yes := range t.vanished {
		if yes {
			ids = append(ids, id)
		}
	}
	return ids
}

// What a producer meets is explained by what was done to the database between the last time that all was well and the failure.
func TestExplanations(t *testing.T) {
	incidents := []Incident{
		{Fault: "crash", From: at(10), To: at(11), Hits: onDatabase},
		{Fault: "cut", From: at(20), To: at(21), Hits: onNetwork},
	}
	for name, c := range map[string]struct {
		from, at  float64
		explained bool
	}{
		"before":               {9, 9.5, false},
		"during":               {10.5, 10.5, true},
		"found long after":     {9, 16, true},
		"just recovered":       {12, 12.5, true},
		"after":                {14, 14, false},
		"of the relays' alone": {20.5, 20.5, false},
	} {
		p := &producers{errs: []trouble{{at(c.from), at(c.at), errSlow(time.Second)}}}
		if got := len(p.unexplained(incidents)) == 0; got != c.explained {
			t.Errorf("%s: explained %v", name, got)
		}
	}
}

// A replay brings each message once more, whenever it comes to it, and no more often than that.
func TestReplayExcuses(t *testing.T) {
	x := Expectation{Name: "s", Matches: func(m Message) bool { return m.Topic == "a" }}
	for name, c := range map[string]struct {
		again      []float64
		violations int
	}{
		"before it":       {[]float64{35}, 1},
		"once after it":   {[]float64{60}, 0},
		"twice after it":  {[]float64{60, 70}, 1},
		"thrice after it": {[]float64{60, 70, 80}, 2},
	} {
		e := story()
		e.incidents = []Incident{{Fault: "replay", From: at(50), To: at(51), Repeats: []string{"s"}, Replays: true}}
		arrivals := join(arrived(1, 1, 2, 3, 5, 7), arrived(55, 4))
		if name == "before it" {
			arrivals = join(arrived(1, 1, 2, 3, 5, 7), arrived(30, 4))
			e.incidents[0].Repeats = []string{"other"}
		}
		for _, again := range c.again {
			arrivals = append(arrivals, arrived(again, 4)...)
		}
		if got := e.judge(x, arrivals).violations; len(got) != c.violations {
			t.Errorf("%s: %q, want %d violations", name, got, c.violations)
		}
	}
}
