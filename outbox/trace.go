package outbox

import (
	"context"
	"strings"
)

const traceHeader = "traceparent"

// Traceparent, if set, returns the W3C traceparent of a context, "" if it has none. It is asked for each call of an Enqueue
// function whose context does not have one from WithTraceparent. Set it at the start of main: it is read without a lock.
var Traceparent func(ctx context.Context) string

type traceKey struct{}

// WithTraceparent returns a context whose messages carry the given W3C traceparent (https://www.w3.org/TR/trace-context/),
// unless they have a header of that name already. A malformed one, such as a client may have sent, is left out.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, traceKey{}, traceparent)
}

// traceparent returns the valid traceparent of ctx, or "".
func traceparent(ctx context.Context) string {
	trace, ok := ctx.Value(traceKey{}).(string)
	if !ok && Traceparent != nil {
		trace = Traceparent(ctx)
	}
	if !validTraceparent(trace) {
		return ""
	}
	return trace
}

// validTraceparent checks version-traceid-parentid-flags; versions after 00 may append more.
func validTraceparent(s string) bool {
	if len(s) < 55 || len(s) > 255 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent, flags := s[:2], s[3:35], s[36:52], s[53:55]
	if len(s) > 55 && (version == "00" || s[55] != '-') || version == "ff" {
		return false
	}
	return isHex(version) && isHex(flags) && isHex(trace) && isHex(parent) &&
		strings.Trim(trace, "0") != "" && strings.Trim(parent, "0") != "" && checkText(s) == nil
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
