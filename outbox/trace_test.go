package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
)

const trace1, trace2 = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-11111111111111111111111111111111-2222222222222222-00"

func TestTraceparentIsCaptured(t *testing.T) {
	type key struct{}
	plain := t.Context()
	root := WithTraceparentFrom(plain, func(ctx context.Context) string { s, _ := ctx.Value(key{}).(string); return s })
	found := context.WithValue(root, key{}, trace2)
	for _, c := range []struct {
		name    string
		ctx     context.Context
		headers map[string]string
		want    string
	}{
		{"none", plain, nil, ""},
		{"none, headers", plain, map[string]string{"a": "b"}, `{"a":"b"}`},
		{"context", WithTraceparent(plain, trace1), nil, `{"traceparent":"` + trace1 + `"}`},
		{"context, headers", WithTraceparent(plain, trace1), map[string]string{"a": "b"}, `{"a":"b","traceparent":"` + trace1 + `"}`},
		{"found", found, nil, `{"traceparent":"` + trace2 + `"}`},
		{"none found", root, nil, ""},
		{"the innermost", WithTraceparent(found, trace1), nil, `{"traceparent":"` + trace1 + `"}`},
		{"own header", WithTraceparent(plain, trace1), map[string]string{"Traceparent": "mine"}, `{"Traceparent":"mine"}`},
		{"malformed", WithTraceparent(found, "garbage\x00"), nil, ""},
	} {
		given := len(c.headers)
		r, err := (&Message{Topic: "a", Payload: 1, Headers: c.headers}).encode(c.ctx)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := ""
		if r.headers != nil {
			got = *r.headers
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		if len(c.headers) != given {
			t.Errorf("%s: the message's own map was changed", c.name)
		}
	}
}

// All three headers of a context travel, each as far as it is valid and the message has none of its own.
func TestTraceIsCaptured(t *testing.T) {
	const state, bag = "shop=00f067aa0ba902b7,t1@vendor=x", "tenant=7,name=Zo%C3%AB;secret"
	other := map[string]string{"tracestate": state, "baggage": bag, "x-b3-traceid": "1", "traceparent": trace1}
	for _, c := range []struct {
		name           string
		found, headers map[string]string
		want           map[string]string
	}{
		{"all", other, nil, map[string]string{"traceparent": trace1, "tracestate": state, "baggage": bag}},
		{"beside others", other, map[string]string{"a": "b"}, map[string]string{"a": "b", "traceparent": trace1, "tracestate": state, "baggage": bag}},
		{"its own traceparent", other, map[string]string{"TraceParent": trace2}, map[string]string{"TraceParent": trace2, "baggage": bag}},
		{"its own tracestate", other, map[string]string{"Tracestate": "a=b"}, map[string]string{"Tracestate": "a=b", "traceparent": trace1, "baggage": bag}},
		{"its own baggage", other, map[string]string{"BAGGAGE": "a=b"}, map[string]string{"BAGGAGE": "a=b", "traceparent": trace1, "tracestate": state}},
		{"a state without a parent", map[string]string{"tracestate": state, "baggage": bag}, nil, map[string]string{"baggage": bag}},
		{"a state of a malformed parent", map[string]string{"traceparent": "garbage", "tracestate": state}, nil, nil},
		{"malformed", map[string]string{"traceparent": trace1, "tracestate": "nonsense", "baggage": "nonsense"}, nil, map[string]string{"traceparent": trace1}},
		{"nothing", nil, nil, nil},
	} {
		ctx := WithTraceFrom(WithTraceparent(t.Context(), trace2), func(context.Context) map[string]string { return c.found })
		r, err := (&Message{Topic: "a", Payload: 1, Headers: c.headers}).encode(ctx)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got map[string]string
		if r.headers != nil {
			if err := json.Unmarshal([]byte(*r.headers), &got); err != nil {
				t.Fatal(err)
			}
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestValidTracestate(t *testing.T) {
	long := strings.Repeat("v", 256)
	for s, want := range map[string]bool{
		"a=1": true, "a=1,b=2": true, "a=1, b=2 ,\tc=3": true, "a=1,,b=2": true, "0tenant@vendor=x": true, "a_-*/9=~!": true, "a=" + long: true,
		"": false, ",": false, "a": false, "=1": false, "a=": false, "A=1": false, "1a=1": false, "a=1,a=2": false, "a=1=2": false, "a=\x01": false, "a=é": false,
		"@v=1": false, "t@=1": false, "t@1=1": false, "t@abcdefghijklmno=1": false, "t@a@b=1": false,
		"a=" + long + "v": false, "a=" + long + ",b=" + long: false, // the second one has 513 bytes and more
		strings.TrimSuffix(members(32), ","):              true,
		strings.TrimSuffix(members(33), ","):              false,
		strings.Repeat("a", 256) + "=1":                   true,
		strings.Repeat("a", 257) + "=1":                   false,
		strings.Repeat("a", 241) + "@" + long[:14] + "=1": true,
		strings.Repeat("a", 242) + "@" + long[:14] + "=1": false,
	} {
		if got := validTracestate(s); got != want {
			t.Errorf("validTracestate(%q) = %t, want %t", s, got, want)
		}
	}
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "m%d=1,", i)
	}
	return b.String()
}

func TestValidBaggage(t *testing.T) {
	for s, want := range map[string]bool{
		"a=1": true, "a=": true, "a=1,b=2": true, " a = 1 ;p;q=2 , b=2": true, "a=b=c": true, "user%2Did=x": true, "a=" + strings.Repeat("v", 8190): true,
		"": false, "a": false, "=1": false, "a=1,": false, "a b=1": false, "a=é": false, "a=\"x\"": false, "a=\\": false, "a=\n": false, "a=" + strings.Repeat("v", 8191): false,
	} {
		if got := validBaggage(s); got != want {
			t.Errorf("validBaggage(%.60q) = %t, want %t", s, got, want)
		}
	}
}

func TestValidTraceparent(t *testing.T) {
	for s, want := range map[string]bool{
		trace1: true, trace2: true,
		"01" + trace1[2:]:            true,
		"01" + trace1[2:] + "-later": true,
		trace1 + "-later":            false,
		"01" + trace1[2:] + "later":  false,
		"01" + trace1[2:] + "-\xff":  false,
		"ff" + trace1[2:]:            false,
		"":                           false,
		trace1[:54]:                  false,
		"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false,
		"00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x": false,
	} {
		if got := validTraceparent(s); got != want {
			t.Errorf("validTraceparent(%q) = %t, want %t", s, got, want)
		}
	}
}
