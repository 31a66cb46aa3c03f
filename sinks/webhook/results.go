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

	"github.com/postrider/postrider/sinks/webhook/internal/transport"
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
	RetryAfter seconds `json:"retry_after"`
}

// seconds is a number of any size.
type seconds float64

// UnmarshalJSON takes what is too large for a float64 for endless.
func (s *seconds) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("retry_after %.40s: must be a number of seconds", text)
	}
	*s = seconds(v)
	return nil
}

// readResults takes the results out of an answer to a batch, by event id; events without one are accepted. The body is
// still there to be read afterwards. An error means that there are results, and that they cannot be read.
func (s *Sink) readResults(res *http.Response) (map[string]error, error) {
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
			all[r.ID] = s.itemOutcome(r)
		}
	}
	return all, nil
}

func (s *Sink) itemOutcome(r *result) error {
	text := fmt.Sprintf("%s answered %d %s for this event", s.name, r.Status, http.StatusText(r.Status))
	if reason := transport.Shorten(s.secrets.Redact(r.Reason)); reason != "" {
		text += ": " + reason
	}
	most := time.Duration(s.options.RetryAfterMax)
	after := most
	if asked := max(float64(r.RetryAfter), 0); asked < most.Seconds() {
		after = time.Duration(math.Ceil(asked)) * time.Second
	}
	return outcome(s.kindOf(r.Status), errors.New(text), min(after, most))
}
