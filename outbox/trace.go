package outbox

import (
	"context"
	"strings"
)

const traceHeader = "traceparent"

type traceKey struct{}

// WithTraceparent returns a context whose messages carry the given W3C traceparent (https://www.w3.org/TR/trace-context/),
// unless they have a header of that name already. A malformed one, such as a client may have sent, is left out.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return WithTraceparentFrom(ctx, func(context.Context) string { return traceparent })
}

// WithTraceparentFrom returns a context whose messages carry the W3C traceparent that find returns, "" for none. Each call of an
// Enqueue function asks it for each message, with the context that it was itself given: so one that is set at the root (such as
// http.Server's BaseContext) finds the span that is open where the message is enqueued. The innermost of these two functions holds.
func WithTraceparentFrom(ctx context.Context, find func(ctx context.Context) string) context.Context {
	return context.WithValue(ctx, traceKey{}, find)
}

// traceparent returns the valid traceparent of ctx, or "".
func traceparent(ctx context.Context) string {
	find, ok := ctx.Value(traceKey{}).(func(context.Context) string)
	if !ok {
		return ""
	}
	trace := find(ctx)
	if !validTraceparent(trace) {
		return ""
	}
	return trace
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

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
