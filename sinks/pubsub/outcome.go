package pubsubsink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// remedies are what would help.
var remedies = map[codes.Code]string{
	codes.NotFound:           ": create the topic, or correct project and topic in the sink's URL (this sink never creates one)",
	codes.PermissionDenied:   ": the identity needs the role Pub/Sub Publisher on the topic",
	codes.Unauthenticated:    ": the credentials are wrong, or there are none",
	codes.FailedPrecondition: ": the topic is set up so that it takes nothing",
	codes.Unimplemented:      ": that is not Pub/Sub",
}

// outcomeOf makes an outcome of an error of a call.
func (l *link) outcomeOf(err error) error {
	s := status.Convert(err)
	text := fmt.Sprintf("%s: %s", s.Code(), oneLine(s.Message()))
	fault := l.fault.Load()
	switch code := s.Code(); {
	case fault != nil && (code == codes.Unavailable || code == codes.DeadlineExceeded):
		if hidden, ok := errors.AsType[*secret.HiddenError](*fault); ok {
			return sinks.Misconfigured(hidden)
		}
		return sinks.Misconfigured(errors.New(oneLine((*fault).Error())))
	case remedies[code] != "":
		return sinks.Misconfigured(errors.New(text + remedies[code]))
	case refuses(err):
		return sinks.Permanent(errors.New(text))
	case code == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		return sinks.Unavailable(fmt.Errorf("no answer in time: %w", context.DeadlineExceeded), 0)
	}
	return sinks.Unavailable(errors.New(text), 0)
}

// refuses says that a request was refused for what may be in one of its messages.
func refuses(err error) bool {
	switch s := status.Convert(err); s.Code() {
	case codes.InvalidArgument, codes.OutOfRange:
		return true
	case codes.ResourceExhausted: // by the library on either side; a quota says it in another way
		return strings.Contains(s.Message(), "message larger than max")
	}
	return false
}

// oneLine is a text as one line, of bounded length.
func oneLine(text string) string {
	const most = 500
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
