package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestConformanceOfFormats(t *testing.T) {
	for _, format := range []string{FormatStructured, FormatBatch, FormatNDJSON} {
		t.Run(format, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
				r := new(receiver)
				link := linktest.New(t, serve(t, r.ServeHTTP).Listener.Addr().String())
				return &sinktest.Harness{
					Open: func(t testing.TB) sinks.Sink {
						s, err := New(Config{
							URL: "http://" + link.Addr() + "/hook", Lanes: 4, Timeout: 10 * time.Second, Options: Options{Format: format},
						})
						if err != nil {
							t.Fatal(err)
						}
						return s
					},
					Received: func() []sinktest.Received { return r.extended(t) },
					Down:     link.Down, Hang: link.Hang, Up: link.Up,
				}
			})
		})
	}
}

// extended is received, with extension attributes under the names of the suite's headers.
func (r *receiver) extended(t *testing.T) []sinktest.Received {
	all := r.received(t)
	for _, m := range all {
		if v, ok := m.Headers["xshop"]; ok {
			m.Headers["x-shop"] = v
		}
	}
	return all
}

// judge is a receiver of batches that answers as a test says.
type judge struct {
	mu     sync.Mutex
	bodies []string   // of all requests
	ids    [][]string // of their events
	hooks  []string   // webhook-id
	answer func(w http.ResponseWriter, ids []string)
}

func (j *judge) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var events []struct{ ID string }
	if req.Header.Get("Content-Type") == linesType {
		body = []byte("[" + strings.ReplaceAll(strings.TrimSuffix(string(body), "\n"), "\n", ",") + "]")
	}
	if err := json.Unmarshal(body, &events); err != nil {
		http.Error(w, err.Error(), http.StatusTeapot)
		return
	}
	var ids []string
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.bodies, j.ids, j.hooks = append(j.bodies, string(body)), append(j.ids, ids), append(j.hooks, req.Header.Get("Webhook-Id"))
	j.answer(w, ids)
}

// sizes returns how many events each request had.
func (j *judge) sizes() []int {
	var n []int
	for _, ids := range j.ids {
		n = append(n, len(ids))
	}
	return n
}

// openBatch returns a sink to the judge, and n messages.
func openBatch(t *testing.T, j *judge, o Options, n int) (*Sink, []sinks.Delivery) {
	srv := httptest.NewServer(j)
	t.Cleanup(srv.Close)
	if o.Format == "" {
		o.Format = FormatBatch
	}
	var batch []sinks.Delivery
	for i := range n {
		d := sinktest.NewDelivery("orders.created", `{"n":1}`)
		d.Message.MessageID = fmt.Sprintf("e%d", i)
		batch = append(batch, d)
	}
	return open(t, Config{URL: srv.URL, Options: o}), batch
}

func status(code int) func(http.ResponseWriter, []string) {
	return func(w http.ResponseWriter, _ []string) { w.WriteHeader(code) }
}

func TestBatchIsOneRequest(t *testing.T) {
	for _, format := range []string{FormatBatch, FormatNDJSON} {
		j := &judge{answer: status(204)}
		s, batch := openBatch(t, j, Options{Format: format}, 3)
		batch[1].Headers = []byte(`{"id":"x"}`)
		ok, bad := sinks.KindAccepted, sinks.KindPermanent
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, batch...), ok, bad, ok)
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, batch...), ok, bad, ok)
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, batch[:2]...), ok, bad)
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, batch[2:]...), ok)
		if fmt.Sprint(j.ids) != "[[e0 e2] [e0 e2] [e0] [e2]]" {
			t.Errorf("%s: requests with the events %v", format, j.ids)
		}
		if j.hooks[0] != j.hooks[1] || j.hooks[1] == j.hooks[2] || j.hooks[2] == j.hooks[3] || !strings.HasPrefix(j.hooks[0], "batch_") || len(j.hooks[0]) != 38 {
			t.Errorf("%s: webhook-id is %v: it must be the same for the same events, and for no others", format, j.hooks)
		}
		if limits := s.Limits(); limits.Batch != DefaultBatch {
			t.Errorf("%s: the limits are %+v", format, limits)
		}
	}
}

func TestEventsThatFailedGoAlone(t *testing.T) {
	j := &judge{answer: status(204)}
	s, batch := openBatch(t, j, Options{}, 5)
	batch[1].Attempt, batch[2].Attempt = 2, 7
	sinktest.Deliver(t.Context(), s, batch...)
	if got := fmt.Sprint(j.ids); got != "[[e1] [e2] [e0 e3 e4]]" {
		t.Errorf("requests with the events %v", got)
	}
}

// A batch that is refused for good is divided until the ones at fault are alone.
func TestRefusedBatchIsDivided(t *testing.T) {
	bad := []string{"e2", "e7"}
	j := &judge{answer: func(w http.ResponseWriter, ids []string) {
		if slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(bad, id) }) {
			w.WriteHeader(422)
		}
	}}
	s, batch := openBatch(t, j, Options{}, 8)
	for i, err := range sinktest.Deliver(t.Context(), s, batch...) {
		want := sinks.KindAccepted
		if slices.Contains(bad, batch[i].MessageID) {
			want = sinks.KindPermanent
		}
		sinktest.WantKinds(t, []error{err}, want)
	}
	if n := len(j.ids); n > 13 {
		t.Errorf("%d requests to find 2 bad events among 8", n)
	}
}

func TestRestIsNotSentToADestinationThatIsDown(t *testing.T) {
	for _, c := range []struct {
		statuses []int // of the requests, one after the other
		sizes    string
		kinds    []sinks.Kind
	}{
		{[]int{503}, "[2]", []sinks.Kind{sinks.KindUnavailable, sinks.KindUnavailable, sinks.KindUnavailable, sinks.KindUnavailable}},
		{[]int{204, 410}, "[2 2]", []sinks.Kind{sinks.KindAccepted, sinks.KindAccepted, sinks.KindGone, sinks.KindGone}},
		{[]int{413, 204, 429}, "[2 1 1]", []sinks.Kind{sinks.KindAccepted, sinks.KindUnavailable, sinks.KindUnavailable, sinks.KindUnavailable}},
		{[]int{413, 429}, "[2 1]", []sinks.Kind{sinks.KindUnavailable, sinks.KindUnavailable, sinks.KindUnavailable, sinks.KindUnavailable}},
		{[]int{500, 204}, "[2 2]", []sinks.Kind{sinks.KindRetryable, sinks.KindRetryable, sinks.KindAccepted, sinks.KindAccepted}},
	} {
		j := new(judge)
		j.answer = func(w http.ResponseWriter, _ []string) { w.WriteHeader(c.statuses[len(j.ids)-1]) }
		s, batch := openBatch(t, j, Options{BatchBytes: minBatchBytes}, 4)
		for i := range batch {
			batch[i].Payload = []byte(`"` + strings.Repeat("x", 200) + `"`) // two of them go into a request
		}
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, batch...), c.kinds...)
		if got := fmt.Sprint(j.sizes()); got != c.sizes {
			t.Errorf("%v: requests with %s events, want %s", c.statuses, got, c.sizes)
		}
	}
}

func TestResultsSettleSingleEvents(t *testing.T) {
	const results = `{"results":[
		{"id":"e0","status":204}, {"id":"e1","status":422,"reason":"no\nsuch shop"}, {"id":"e2","status":500},
		{"id":"e3","status":503,"retry_after":6.2}, {"id":"other","status":400}, {"id":"e4","status":409,"retry_after":1e999},
		{"id":"e5","status":409}, {"id":"e5","status":200}, {"id":"e6"}]}`
	j := &judge{answer: func(w http.ResponseWriter, _ []string) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusMultiStatus)
		_, _ = io.WriteString(w, results)
	}}
	s, batch := openBatch(t, j, Options{}, 8)
	out := sinktest.Deliver(t.Context(), s, batch...)
	ok, retry := sinks.KindAccepted, sinks.KindRetryable
	sinktest.WantKinds(t, out, ok, sinks.KindPermanent, retry, sinks.KindUnavailable, retry, retry, retry, ok)
	if out[1] == nil || !strings.HasSuffix(out[1].Error(), " answered 422 Unprocessable Entity for this event: no such shop") {
		t.Errorf("the reason is %v", out[1])
	}
	for i, want := range map[int]time.Duration{3: 7 * time.Second, 4: time.Hour, 5: 0} {
		if _, after := sinks.Classify(out[i]); after != want {
			t.Errorf("event %d waits %v, want %v", i, after, want)
		}
	}
	if len(j.ids) != 1 {
		t.Errorf("%d requests, want 1", len(j.ids))
	}
}

func TestAnswersWithoutResults(t *testing.T) {
	for name, c := range map[string]struct {
		status      int
		contentType string
		body        string
		want        sinks.Kind
	}{
		"no JSON":        {200, "text/plain", `{"results":[{"id":"e0","status":500}]}`, sinks.KindAccepted},
		"another answer": {200, "application/json", `{"ok":true}`, sinks.KindAccepted},
		"an array":       {200, "application/json", `[1]`, sinks.KindAccepted},
		"broken JSON":    {200, "application/json", `ok`, sinks.KindAccepted},
		"nothing":        {200, "application/json", ``, sinks.KindAccepted},
		"none":           {207, "application/json", `{"results":[]}`, sinks.KindAccepted},
		"odd results":    {200, "application/json", `{"results":[{"id":"e0","status":"good"}]}`, sinks.KindRetryable},
		"not in a 500":   {500, "application/json", `{"results":[{"id":"e0","status":200}]}`, sinks.KindRetryable},
		"not in a 422":   {422, "application/json", `{"results":[{"id":"e0","status":"good"}]}`, sinks.KindPermanent},
		"too long":       {200, "application/json", `{"results":[` + strings.Repeat(" ", maxResults) + `]}`, sinks.KindRetryable},
		"broken off":     {200, "application/json", "", sinks.KindRetryable},
	} {
		j := &judge{answer: func(w http.ResponseWriter, _ []string) {
			w.Header().Set("Content-Type", c.contentType)
			if name == "broken off" {
				w.Header().Set("Content-Length", "100")
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}}
		s, batch := openBatch(t, j, Options{}, 2)
		out := sinktest.Deliver(t.Context(), s, batch...)
		if kind, _ := sinks.Classify(out[0]); kind != c.want {
			t.Errorf("%s: the outcome is %v (%v), want %v", name, kind, out[0], c.want)
		}
	}
}

// Every event is in one group, in order, and no group is larger than the bound unless it has one event.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bound := rapid.IntRange(10, 100).Draw(t, "bound")
		var items []item
		for i, n := range rapid.SliceOf(rapid.IntRange(1, 120)).Draw(t, "sizes") {
			items = append(items, item{index: i, event: make([]byte, n), alone: rapid.IntRange(0, 4).Draw(t, "alone") == 0})
		}
		seen := map[int]bool{}
		var merged int
		for _, group := range split(items, bound) {
			size := 1 // brackets, and one comma less than events
			for _, it := range group {
				size += len(it.event) + 1
				if seen[it.index] {
					t.Fatalf("event %d is in two groups", it.index)
				}
				seen[it.index] = true
				if it.alone && len(group) > 1 {
					t.Fatalf("event %d is not alone", it.index)
				}
			}
			if !slices.IsSortedFunc(group, func(a, b item) int { return a.index - b.index }) {
				t.Fatalf("group %v is out of order", group)
			}
			if size > bound && len(group) > 1 {
				t.Fatalf("a group has %d bytes, more than %d", size, bound)
			}
			merged += len(group)
		}
		if merged != len(items) {
			t.Fatalf("%d events in groups, want %d", merged, len(items))
		}
	})
}
