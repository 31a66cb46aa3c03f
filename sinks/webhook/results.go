package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"
)

// maxResults bounds the answer to a batch, in bytes.
const maxResults = 1 << 20

// answer is what a receiver may say of each event of a batch, in JSON, with a 2xx status.
type answer struct {
	Results []result `json:"results"`
}

// result settles one event as an answer with that status would.
type result struct {
	ID     string `json:"id"`
	Status int    `json:"status"`
	// Reason is for people.
	Reason string `json:"reason"`
	// RetryAfter is in seconds.
	RetryAfter float64 `json:"retry_after"`
}

// readResults takes the results out of an answer to a batch, by event id; events without one are accepted. The body is
// still there to be read afterwards. An error means that there are results, and that they cannot be read.
func (s *Sink) readResults(res *http.Response, now time.Time) (map[string]error, error) {
	if res.StatusCode/100 != 2 || mediaType(res.Header.Get("Content-Type")) != jsonType {
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxResults+1))
	rest := res.Body
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(text), rest), rest}
	if err != nil {
		return nil, fmt.Errorf("the results in the answer of %s broke off: %w", s.name, err)
	}
	if len(text) > maxResults {
		return nil, fmt.Errorf("the results in the answer of %s are longer than %d bytes", s.name, maxResults)
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil || fields["results"] == nil {
		return nil, nil // an answer about something else
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, fmt.Errorf("the results in the answer of %s cannot be read: %w", s.name, err)
	}
	all := make(map[string]error, len(a.Results))
	for i := range a.Results {
		// Of several results for one event a failure counts.
		if r := &a.Results[i]; all[r.ID] == nil {
			all[r.ID] = s.itemOutcome(r, now)
		}
	}
	return all, nil
}

func (s *Sink) itemOutcome(r *result, now time.Time) error {
	text := fmt.Sprintf("%s answered %d %s for this event", s.name, r.Status, http.StatusText(r.Status))
	if reason := shorten(r.Reason); reason != "" {
		text += ": " + reason
	}
	seconds := strconv.Itoa(int(math.Ceil(min(max(r.RetryAfter, 0), 1<<30))))
	return outcome(s.kindOf(r.Status), errors.New(text), retryAfter(seconds, now, time.Duration(s.options.RetryAfterMax)))
}
