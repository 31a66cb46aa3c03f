package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// An operation of the document.
type operation struct {
	method, path string
	role         string
	stream       bool // its answer does not end
	spec         map[string]any
}

// document is what the relay serves, read twice: by the library that judges, and as plain JSON by the one that makes requests up.
type document struct {
	raw        map[string]any
	operations []operation
	judge      validator.Validator
}

func readDocument(t *testing.T, r *relay) *document {
	t.Helper()
	res := r.send(t, request{method: "GET", path: "/api/v1/openapi.json", token: r.tokens["viewer"]})
	d := new(document)
	if err := json.Unmarshal(res.body, &d.raw); err != nil {
		t.Fatal(err)
	}
	parsed, err := libopenapi.NewDocument(res.body)
	if err != nil {
		t.Fatal(err)
	}
	judge, errs := validator.NewValidator(parsed)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	d.judge = judge
	if ok, errs := judge.ValidateDocument(); !ok {
		t.Fatalf("the document is no OpenAPI: %v", errs)
	}
	paths := d.raw["paths"].(map[string]any)
	for path, item := range paths {
		for method, spec := range item.(map[string]any) {
			spec := spec.(map[string]any)
			role, _ := spec["x-role"].(string)
			stream, _ := spec["x-stream"].(bool)
			d.operations = append(d.operations, operation{strings.ToUpper(method), path, role, stream, spec})
		}
	}
	slices.SortFunc(d.operations, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	if len(d.operations) < 25 {
		t.Fatalf("the document has only %d operations", len(d.operations))
	}
	return d
}

// may is who may do what a role is needed for.
var may = map[string][]string{
	"viewer":   {"viewer", "operator", "admin"},
	"operator": {"operator", "admin"},
	"admin":    {"admin"},
	"worker":   {"worker", "admin"},
}

// TestRolesOfOperations tries each role on each operation: who may gets past the door, whatever else is wrong with the request, and nobody else does.
func TestRolesOfOperations(t *testing.T) {
	r := startRelay(t)
	d := readDocument(t, r)
	for _, o := range d.operations {
		allowed, known := may[o.role]
		if !known {
			t.Errorf("%s %s: x-role is %q", o.method, o.path, o.role)
			continue
		}
		path := strings.NewReplacer("{name}", "nobody", "{id}", "4711").Replace(o.path)
		for who, token := range r.tokens {
			if (o.path == "/api/v1/doctor" || o.stream) && who != "worker" {
				continue // it takes a while, or for ever
			}
			res := r.send(t, request{method: o.method, path: path, token: token, kind: "application/json", body: []byte("[]")})
			refused := res.status == http.StatusForbidden || res.status == http.StatusUnauthorized
			if refused == slices.Contains(allowed, who) {
				t.Errorf("%s %s as %s: %d %s", o.method, path, who, res.status, res.body)
			}
		}
		for name, token := range map[string]string{"no token": "", "a wrong one": "wrong-0123456789abcdef"} {
			if res := r.send(t, request{method: o.method, path: path, token: token, kind: "application/json", body: []byte("{}")}); res.status != http.StatusUnauthorized {
				t.Errorf("%s %s with %s: %d", o.method, path, name, res.status)
			}
		}
	}
}

// TestContract sends requests of all kinds to each operation, right, wrong and absurd: what comes back is what the document says, nothing is
// accepted that it calls wrong, and nothing is the relay's fault.
func TestContract(t *testing.T) {
	r := startRelay(t)
	d := readDocument(t, r)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), doc: d.raw, names: []string{"billing", "mail", "nightly", "nobody", ""}}
	accepted := map[string]int{}
	for round := range rounds {
		for _, o := range d.operations { // in turn, so that what one makes another one finds
			if o.stream || o.path == "/api/v1/doctor" && round%50 > 0 { // that one takes a while
				continue
			}
			if d.try(t, r, g.request(o), o) {
				accepted[o.method+" "+o.path]++
			}
			if t.Failed() {
				return
			}
		}
	}
	for _, o := range d.operations {
		if !o.stream && accepted[o.method+" "+o.path] == 0 && !slices.Contains(seldomRight, o.method+" "+o.path) {
			t.Errorf("no request to %s %s was accepted: nothing is known of its answers", o.method, o.path)
		}
	}
	if res := r.send(t, request{method: "GET", path: "/api/v1/status", token: r.tokens["viewer"]}); res.status != http.StatusOK {
		t.Errorf("in the end status is answered %d %s", res.status, res.body)
	}
}

const rounds = 150

// try sends a request, holds what comes back to the document, and says whether it was accepted.
func (d *document) try(t *testing.T, r *relay, q request, o operation) bool {
	t.Helper()
	q.token = r.tokens["admin"]
	if o.role == "worker" {
		q.token = r.tokens["worker"]
	}
	right, why := d.judges(t, r, q)
	res := r.send(t, q)
	told := fmt.Sprintf("%s %s %s %s: %d %.500s", q.method, q.path, q.kind, q.body, res.status, res.body)
	if res.status >= 500 && res.status != http.StatusServiceUnavailable {
		t.Errorf("the relay's fault: %s", told)
	}
	if res.status < 300 && !right {
		t.Errorf("accepted, though the document calls it wrong (%s): %s", why, told)
	}
	if q.strange { // it leads elsewhere
		return false
	}
	if ok, errs := d.judge.ValidateHttpResponse(q.http(t, r), res.http(q.http(t, r))); !ok {
		t.Errorf("not what the document says: %v\n%s", errs, told)
	}
	return res.status < 300
}

// seldomRight are operations on what is not there by chance.
var seldomRight = []string{"POST /api/v1/operations/{id}/cancel"}

// judges says whether the document calls a request right, where null counts as left out.
func (d *document) judges(t *testing.T, r *relay, q request) (right bool, why string) {
	var body any
	if json.Unmarshal(q.body, &body) == nil {
		text, err := json.Marshal(withoutNulls(body))
		if err != nil {
			t.Fatal(err)
		}
		q.body = text
	}
	right, errs := d.judge.ValidateHttpRequest(q.http(t, r))
	if !right {
		why = errs[0].Error()
	}
	return right, why
}

func withoutNulls(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			if member == nil {
				delete(value, name)
			} else {
				value[name] = withoutNulls(member)
			}
		}
	case []any:
		for i := range value {
			value[i] = withoutNulls(value[i])
		}
	}
	return value
}

// request is one to send, as often as needed.
type request struct {
	method, path, token, kind string
	body                      []byte
	strange                   bool // its path is not of the operation any more
}

func (q request) http(t *testing.T, r *relay) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), q.method, r.base+q.path, bytes.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	if q.kind != "" {
		req.Header.Set("Content-Type", q.kind)
	}
	if q.token != "" {
		req.Header.Set("Authorization", "Bearer "+q.token)
	}
	return req
}

// response is one that was read.
type response struct {
	status int
	header http.Header
	body   []byte
}

func (s response) http(req *http.Request) *http.Response {
	return &http.Response{StatusCode: s.status, Header: s.header, Body: io.NopCloser(bytes.NewReader(s.body)), Request: req}
}
