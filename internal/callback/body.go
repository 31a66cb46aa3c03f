package callback

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/sinks"
)

// MaxBody bounds the body of a callback, in bytes.
const MaxBody = sinks.MaxResult + 1<<10

// Bounds of what a callback may ask for, in seconds. A year of PostgreSQL has twelve months of thirty days.
const (
	minLease      = 1
	maxLease      = 7 * 24 * 60 * 60
	maxRetryAfter = 360 * 24 * 60 * 60
)

// failure is what a receiver says of work that has failed. What is nil was not said.
type failure struct {
	reason     *string
	retryAfter *float64 // seconds
	dead       bool
}

// given are the fields of a body. Whoever reads one takes it out, so that the unknown ones are left.
type given map[string]json.RawMessage

// parseFields reads a JSON object. No body is one without fields.
func parseFields(body []byte) (given, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	var fields given
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return nil, errors.New("the body is something else than a JSON object: it must be empty or look like {\"reason\": \"no such shop\"}")
	}
	return fields, nil
}

// take reads one field, nil if it is not there or null.
func take[T any](fields given, name, wanted string) (*T, error) {
	text, ok := fields[name]
	delete(fields, name)
	if !ok {
		return nil, nil
	}
	var v *T
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, wrongField(name, text, wanted)
	}
	return v, nil
}

// takeSeconds reads a number between two bounds.
func takeSeconds(fields given, name string, least, most float64) (*float64, error) {
	text, wanted := fields[name], fmt.Sprintf("a number of seconds from %.0f to %.0f", least, most)
	v, err := take[float64](fields, name, wanted)
	if err == nil && v != nil && (*v < least || *v > most) {
		return nil, wrongField(name, text, wanted)
	}
	return v, err
}

func wrongField(name string, text json.RawMessage, wanted string) error {
	return fmt.Errorf("%s %s: must be %s", name, human.Clip(string(text), 60), wanted)
}

// none says which fields are left that the action does not know.
func (f given) none(action, known string) error {
	if len(f) == 0 {
		return nil
	}
	return fmt.Errorf("%s knows no field %q: it takes %s", action, human.Clip(slices.Sorted(maps.Keys(f))[0], 60), known)
}

func parseComplete(fields given) (result []byte, err error) {
	result = fields["result"]
	delete(fields, "result")
	if string(result) == "null" {
		result = nil
	}
	if result != nil {
		if err := sinks.CheckResult(result); err != nil {
			return nil, fmt.Errorf("result: %w", err)
		}
	}
	return result, fields.none("complete", "result")
}

func parseFailure(fields given) (f failure, err error) {
	if f.reason, err = take[string](fields, "reason", "text"); err != nil {
		return f, err
	}
	if f.retryAfter, err = takeSeconds(fields, "retry_after", 0, maxRetryAfter); err != nil {
		return f, err
	}
	dead, err := take[bool](fields, "dead", "true or false")
	if err != nil {
		return f, err
	}
	f.dead = dead != nil && *dead
	if f.dead && f.retryAfter != nil {
		return f, fmt.Errorf("retry_after %v: has no meaning with dead, after which there is no other try", *f.retryAfter)
	}
	if f.reason != nil {
		f.reason = new(printableText(*f.reason))
	}
	return f, fields.none("fail", "reason, retry_after and dead")
}

func parseHeartbeat(fields given) (lease *float64, err error) {
	if lease, err = takeSeconds(fields, "lease", minLease, maxLease); err != nil {
		return nil, err
	}
	return lease, fields.none("heartbeat", "lease")
}

// printableText puts blanks in place of what the database does not take, or a terminal should not see.
func printableText(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // control characters, and those that turn the direction of what follows
			return ' '
		}
		return r
	}, text))
}

// readBody returns the status that says what is wrong with it, 0 if nothing is.
func readBody(w http.ResponseWriter, r *http.Request) (fields given, status int, err error) {
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBody)); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is longer than %d bytes", MaxBody)
		}
		return nil, http.StatusBadRequest, errors.New("the body did not arrive")
	}
	if fields, err = parseFields(body.Bytes()); err != nil {
		return nil, http.StatusBadRequest, err
	}
	return fields, 0, nil
}
