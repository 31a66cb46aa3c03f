package outbox

import (
	"context"
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
