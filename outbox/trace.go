package outbox

import (
	"context"
	"maps"
	"strings"
)

// The headers of W3C Trace Context (https://www.w3.org/TR/trace-context/) and W3C Baggage (https://www.w3.org/TR/baggage/).
const (
	traceHeader   = "traceparent"
	stateHeader   = "tracestate"
	baggageHeader = "baggage"
)

type traceKey struct{}

// WithTraceparent returns a context whose messages carry the given W3C traceparent (https://www.w3.org/TR/trace-context/),
// unless they have a header of that name already. A malformed one, such as a client may have sent, is left out.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return WithTraceparentFrom(ctx, func(context.Context) string { return traceparent })
}

// WithTraceparentFrom is WithTraceFrom for the traceparent alone, "" for none.
func WithTraceparentFrom(ctx context.Context, find func(ctx context.Context) string) context.Context {
	return WithTraceFrom(ctx, func(ctx context.Context) map[string]string { return map[string]string{traceHeader: find(ctx)} })
}

// WithTraceFrom returns a context whose messages carry as headers what find returns under the names traceparent, tracestate and baggage,
// as W3C Trace Context and W3C Baggage have them; other names count for nothing. Each call of an Enqueue function asks it for each
// message, with the context that it was itself given: so one that is set at the root (such as http.Server's BaseContext) finds the span
// that is open where the message is enqueued. The innermost of these three functions holds.
//
// A message's own headers win: with a traceparent of its own it gets no tracestate either, which would belong to another one. What is
// malformed or longer than the standards want to see carried (512 bytes of tracestate, 8192 of baggage) is left out.
func WithTraceFrom(ctx context.Context, find func(ctx context.Context) map[string]string) context.Context {
	return context.WithValue(ctx, traceKey{}, find)
}

// withTrace adds the trace of the context, as far as there is a valid one and the message has none.
func withTrace(ctx context.Context, headers map[string]string) map[string]string {
	find, ok := ctx.Value(traceKey{}).(func(context.Context) map[string]string)
	if !ok {
		return headers
	}
	own := func(wanted string) bool {
		for name := range headers {
			if strings.EqualFold(name, wanted) {
				return true
			}
		}
		return false
	}
	found, added := find(ctx), make(map[string]string, len(headers)+3)
	if trace := found[traceHeader]; validTraceparent(trace) && !own(traceHeader) {
		added[traceHeader] = trace
		if state := found[stateHeader]; validTracestate(state) && !own(stateHeader) {
			added[stateHeader] = state
		}
	}
	if baggage := found[baggageHeader]; validBaggage(baggage) && !own(baggageHeader) {
		added[baggageHeader] = baggage
	}
	if len(added) == 0 {
		return headers
	}
	maps.Copy(added, headers)
	return added
}

// validTraceparent checks version-traceid-parentid-flags; versions after 00 may append more.
func validTraceparent(s string) bool {
	if len(s) < 55 || len(s) > 255 || s[2:3]+s[35:36]+s[52:53] != "---" {
		return false
	}
	version, trace, parent, flags, more := s[:2], s[3:35], s[36:52], s[53:55], s[55:]
	if version == "ff" || more != "" && (version == "00" || more[0] != '-') || checkText(more) != nil {
		return false
	}
	return isHex(version+trace+parent+flags) && strings.Trim(trace, "0") != "" && strings.Trim(parent, "0") != ""
}

func isHex(s string) bool { return strings.Trim(s, lower[:6]+digits) == "" }

const (
	digits = "0123456789"
	lower  = "abcdefghijklmnopqrstuvwxyz"

	maxStateBytes, maxStateMembers = 512, 32
	maxBaggageBytes                = 8192
	blanks                         = " \t"
)

// validTracestate checks a list of key=value, in which no key comes twice; empty members are allowed (section 3.3.1 of the standard).
func validTracestate(s string) bool {
	if s == "" || len(s) > maxStateBytes {
		return false
	}
	keys := map[string]bool{}
	for member := range strings.SplitSeq(s, ",") {
		if member = strings.Trim(member, blanks); member == "" {
			continue
		}
		key, value, ok := strings.Cut(member, "=")
		if !ok || keys[key] || !validStateKey(key) || value == "" || len(value) > 256 || !printable(value, ",=") {
			return false
		}
		keys[key] = true
	}
	return 0 < len(keys) && len(keys) <= maxStateMembers
}

// validStateKey allows a vendor, or a tenant and a vendor.
func validStateKey(key string) bool {
	tenant, vendor, ok := strings.Cut(key, "@")
	if !ok {
		return len(key) <= 256 && key != "" && strings.Contains(lower, key[:1]) && isStateKey(key)
	}
	return tenant != "" && len(tenant) <= 241 && isStateKey(tenant) && strings.Contains(lower+digits, tenant[:1]) &&
		vendor != "" && len(vendor) <= 14 && isStateKey(vendor) && strings.Contains(lower, vendor[:1])
}

func isStateKey(key string) bool { return strings.Trim(key, lower+digits+"_-*/") == "" }

// printable reports whether s has nothing but ASCII that shows, and blanks, without some characters.
func printable(s, without string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) && !strings.ContainsAny(s, without)
}

// validBaggage checks a list of key=value with properties. What values mean is not looked at: they are percent-encoded.
func validBaggage(s string) bool {
	if s == "" || len(s) > maxBaggageBytes {
		return false
	}
	for member := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(strings.Trim(member, blanks), "=")
		key, value = strings.TrimRight(key, blanks), strings.Trim(value, blanks)
		if !ok || key == "" || !printable(key, " \"(),/:;<=>?@[\\]{}") || !printable(strings.ReplaceAll(value, "\t", " "), "\"\\") {
			return false
		}
	}
	return true
}
