package expression

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

func order() *sinks.Message {
	return &sinks.Message{ID: 7, Topic: "orders.created", Key: "customer-7", JSON: true, Priority: 1, CreatedAt: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC),
		Headers: []byte(`{"region": "eu", "x-tenant": "a"}`),
		Payload: []byte(`{"id": 42, "total": 120, "price": 99.90, "huge": 1e400, "long": 12345678901234567890, "note": null, "paid": true, "odd name": "a\"\u00e9", "customer": {"name": "Ann", "tags": ["a", "b"]}, "items": [{"n": 1}, {"n": 2}]}`)}
}

func filter(t testing.TB, text string) *Program {
	t.Helper()
	p, err := Filter(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

// What expressions say of a message.
func TestWants(t *testing.T) {
	for text, want := range map[string]any{
		`payload.total > 100 && headers.region == "eu"`:          true,
		`payload.total > 119.5 && payload.price < 100`:           true, // of both kinds
		`payload.total == 120.0 && payload.total == 120`:         true,
		`id > 6.5 && priority < 1.5`:                             true,
		`payload.price == 99.9`:                                  true,
		`payload.long > 1.2e19 && payload.id in [1, 42]`:         true,
		`payload.note == null && payload.paid`:                   true,
		`payload["odd name"] == "a\"é"`:                          true,
		`payload.customer.name.startsWith("A")`:                  true,
		`payload.customer.tags.exists(t, t == "b")`:              true,
		`payload.items.all(i, i.n > 1)`:                          false,
		`size(payload.items) == 2 && payload.items[1].n == 2`:    true,
		`topic.matches("^orders[.]") && key == "customer-7"`:     true,
		`id == 7 && priority <= 2 && body == null`:               true,
		`created_at < timestamp("2026-05-05T00:00:00Z")`:         true,
		`created_at.getDayOfWeek() == 1`:                         true,
		`headers["x-tenant"] == "b"`:                             false,
		`has(payload.discount) && payload.discount > 5`:          false,
		`payload.?discount.orValue(0) > 5`:                       false,
		`headers[?"x-user"].orValue("nobody") == "nobody"`:       true,
		`has(payload.huge)`:                                      true,
		`payload.discount > 5 || payload.total > 100`:            true,  // what cannot be said does not matter
		`payload.discount > 5 && payload.total > 1000`:           false, // likewise
		`payload.customer == {"name": "Ann", "tags": ["a","b"]}`: true,
		`payload.discount > 5`:                                   "no such key: discount, which has(…) would ask for first",
		`headers.user == "x"`:                                    "no such key: user, which has(…) would ask for first",
		`payload.total > "a"`:                                    "no such overload",
		`payload.huge > 1`:                                       "the number 1e400… is too large",
		`payload.total`:                                          "its value must be true or false, as of payload.total > 100, and is of type int",
		`payload.customer`:                                       "its value must be true or false, as of payload.total > 100, and is of type map",
		`payload.items[2].n > 1`:                                 "index out of bounds: 2",
	} {
		is, _, err := filter(t, text).Wants(order(), new(Memo))
		got := any(is)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// Of bytes there is no payload, and what is no JSON, though it should be, is an error for who looks at it alone.
func TestOtherMessages(t *testing.T) {
	bytes := &sinks.Message{Topic: "t", Payload: []byte(`{"total": 200}`)}
	broken := &sinks.Message{Topic: "t", JSON: true, Payload: []byte("{\"total\": \"\xff\"}"), Headers: []byte(`["no"]`)}
	for text, want := range map[string][2]any{
		`payload == null`:                   {true, "the payload is not UTF-8"},
		`topic == "t" || payload.total > 1`: {true, true},
		`body == b"{\"total\": 200}"`:       {true, false},
		`has(payload.total)`:                {false, "the payload is not UTF-8"},
		`size(headers) == 0`:                {true, "headers are not a flat JSON object of strings"},
	} {
		for i, m := range []*sinks.Message{bytes, broken} {
			is, _, err := filter(t, text).Wants(m, new(Memo))
			switch wanted, wants := want[i].(string); {
			case wants && (err == nil || !strings.HasPrefix(err.Error(), wanted)):
				t.Errorf("%s of message %d: %v, %v, want %s", text, i, is, err, wanted)
			case !wants && (err != nil || is != want[i]):
				t.Errorf("%s of message %d: %v, %v, want %v", text, i, is, err, want[i])
			}
		}
	}
}

// What is wrong is named with its place, and what would be right.
func TestWhatDoesNotCompile(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "line 1, column 1: there is no expression: its value must be true or false",
		" \n":                                 "line 1, column 1: there is no expression",
		strings.Repeat("a", maxText+1):        "line 1, column 1: the expression has 4097 bytes: it must have at most 4096",
		"paylod.total > 100":                  "line 1, column 1: nothing is called 'paylod' (did you mean 'payload'?): there are topic, key, payload, body, headers, id, priority and created_at; a text needs quotes",
		"payload.total > 100 &&\n  regn == 1": "line 2, column 3: nothing is called 'regn'",
		"payload.total >":                     "line 1, column 16: the expression ends too soon",
		"payload.total > > 1":                 "line 1, column 17: ",
		"topic > 1":                           "line 1, column 7: '_>_' applied to '(string, int)' is not defined: numbers and texts are converted by int(…), double(…) and string(…)",
		"topic":                               "line 1, column 1: its value must be true or false, as of payload.total > 100, and is of type string",
		strings.Repeat("[1].map(x, ", 200) + "1" + strings.Repeat(")", 200): "line 1, column 1: the expression is nested more than 64 deep",
		strings.Repeat("id+", 1000) + "1 > 0":                               "line 1, column 1: the expression is nested more than 64 deep",
		"now() > created_at":                                                "line 1, column 4: nothing is called 'now'",
		`topic.matches("(a")`:                                               "line 1, column 15: invalid matches argument",
		`created_at > timestamp("soon")`:                                    "line 1, column 24: invalid timestamp argument",
		"é == ü":                                                            "line 1, column 1: ",
		"a == b":                                                            "line 1, column 1: nothing is called 'a': there are topic, key, payload, body, headers, id, priority and created_at; a text needs quotes; line 1, column 6: nothing is called 'b'",
		`topic.matches("(((a{100}){10}){10})")`:                             "line 1, column 15: ",
	} {
		if p, err := Filter(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: %v, %v, want %s…", text, p, err, want)
		}
	}
}

// An expression that would run for long ends with an error, soon.
func TestCostIsBounded(t *testing.T) {
	deep := "true"
	for i := range 12 {
		deep = fmt.Sprintf("payload.items.all(x%d, payload.items.all(y%d, %s))", i, i, deep)
	}
	long := order()
	long.Payload = []byte(`{"text": "` + strings.Repeat("a", 60_000) + `"}`)
	twice := strings.Repeat("payload.text + ", 50) + `"" != ""`
	for text, m := range map[string]*sinks.Message{deep: order(), twice: long} {
		_, cost, err := filter(t, text).Wants(m, new(Memo))
		if err == nil || err.Error() != "it costs more than 50000 steps on this message" || cost < maxCost {
			t.Errorf("%.50s…: cost %d, %v", text, cost, err)
		}
	}
}

// A payload that would take too much memory is not read.
func TestPayloadIsBounded(t *testing.T) {
	m := order()
	m.Payload = []byte(`[` + strings.Repeat(`{},`, maxBytes/entryBytes) + `1]`)
	if _, _, err := filter(t, "payload == null").Wants(m, new(Memo)); err == nil || err.Error() != "the payload would take more than 32 MiB to be looked at" {
		t.Errorf("%v", err)
	}
	m.Payload = []byte(strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1))
	if _, _, err := filter(t, "payload == null").Wants(m, new(Memo)); err == nil || err.Error() != "the payload is nested more than 10000 deep" {
		t.Errorf("%v", err)
	}
}

// Which programs can judge a message before what it carries is read.
func TestCarried(t *testing.T) {
	for text, want := range map[string]bool{`topic == "a" && id > 1 && key != "" && priority == 1`: false, `payload.id == 1`: true, `headers.a == "payload"`: true, `body != null`: true,
		`topic == "payload"`: false, `[topic].exists(p, p == "a")`: false, `[1].exists(i, payload.id == i)`: true} {
		if filter(t, text).Carried() != want {
			t.Errorf("%s: %t, want %t", text, !want, want)
		}
	}
}

// Equal texts are one program, which is asked once about a message, however many ask, and at once.
func TestProgramsAreShared(t *testing.T) {
	a, b, other := filter(t, "payload.total > 1"), filter(t, "payload.total > 1"), filter(t, "payload.total > 2")
	if a != b || a == other {
		t.Error("equal texts are two programs, or others one")
	}
	var memo Memo
	var mu sync.Mutex
	var asking sync.WaitGroup
	costs := map[*Program]int{}
	m := order()
	for range 20 {
		for _, p := range []*Program{a, b, other} {
			asking.Go(func() {
				is, cost, err := p.Wants(m, &memo)
				if !is || err != nil {
					t.Errorf("%t, %v", is, err)
				}
				mu.Lock()
				defer mu.Unlock()
				if cost > 0 {
					costs[p]++
				}
			})
		}
	}
	asking.Wait()
	if costs[a] != 1 || costs[other] != 1 {
		t.Errorf("the programs were evaluated %d and %d times", costs[a], costs[other])
	}
}

// The payload is read once for all programs, and only if one looks at it.
func TestPayloadIsReadOnce(t *testing.T) {
	var memo Memo
	m := order()
	read := func() (n int, value any) {
		for _, f := range memo.memory(m).found {
			if f.what == part("payload") {
				n, value = n+1, f.is
			}
		}
		return n, value
	}
	ask := func(p *Program) {
		if is, _, err := p.Wants(m, &memo); !is || err != nil {
			t.Fatalf("%t, %v", is, err)
		}
	}
	neither, first, second := filter(t, `headers.region == "eu" || payload.id == 1`), filter(t, `payload.id == 42`), filter(t, `payload.total == 120`)
	ask(neither)
	if n, _ := read(); n > 0 {
		t.Error("the payload was read for nobody")
	}
	ask(first)
	m.Payload = []byte("null") // would be found by who reads again
	ask(second)
	if n, _ := read(); n != 1 {
		t.Errorf("the payload was read %d times", n)
	}
	runtime.KeepAlive([]*Program{neither, first, second})
}

// What stays of messages is bounded: of each, and of what takes room, of all together.
func TestMemoriesAreBounded(t *testing.T) {
	var memo Memo
	m := order()
	for i := range 100 {
		filter(t, fmt.Sprintf("payload.id != %d", 1000+i)).Wants(m, &memo)
	}
	if n := len(memo.memory(m).found); n > mostFound {
		t.Errorf("%d findings of a message stay", n)
	}
	text := strings.Repeat("a", keptBytes/10)
	p, other := filter(t, "payload.text != ''"), filter(t, "payload.text == ''") // what one alone looks at does not stay at all
	memos := make([]Memo, 30)
	for i := range memos {
		m := order()
		m.Payload = []byte(`{"text": "` + text + `"}`)
		p.Wants(m, &memos[i])
	}
	kept := 0
	for i := range memos {
		for _, f := range memos[i].memory(nil).found {
			if f.what == part("payload") {
				kept++
			}
		}
	}
	large.mu.Lock()
	bytes := large.bytes
	large.mu.Unlock()
	runtime.KeepAlive(other)
	if kept == 0 || kept > 10 || bytes > keptBytes {
		t.Errorf("%d payloads stay, %d bytes", kept, bytes)
	}
}

func BenchmarkFilter(b *testing.B) {
	for _, text := range []string{`topic == "a"`, `headers.region == "eu"`, `payload.total > 100`, `payload.total > 100 && headers.region == "eu"`, `payload.items.exists(i, i.n == 2)`} {
		b.Run(text, func(b *testing.B) {
			p, m := filter(b, text), order()
			b.ReportAllocs()
			for b.Loop() {
				var memo Memo
				if _, _, err := p.Wants(m, &memo); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// By what expressions tell a message apart.
func TestValue(t *testing.T) {
	for text, want := range map[string]string{
		`payload.customer.name`: "Ann", `payload.id / 10`: "4", `payload.paid`: "true", `headers["x-tenant"] + "-" + string(priority)`: "a-1", `7u`: "7",
		`payload.nothing`: "!no such key: nothing, which has(…) would ask for first", `payload.price`: "!its value must be a text, a whole number, true or false, as of payload.customer, and is of type double",
	} {
		got, _, err := mustName(t, text).Value(order(), new(Memo))
		if err != nil {
			got = "!" + err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if f, err := Filter("payload.paid"); err != nil || any(f) == any(mustName(t, "payload.paid")) {
		t.Errorf("a filter is a name: %v", err)
	}
}

func mustName(t *testing.T, text string) *Program {
	t.Helper()
	p, err := Name(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
