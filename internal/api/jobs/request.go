package jobs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/hop"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/pull"
)

const (
	longestBody   = 16 << 20
	longestName   = 200
	longestReason = 1000 // characters; the rest is cut off
	longestWait   = 30 * time.Second
	longestAfter  = 366 * 24 * time.Hour
	mostJobs      = 1000 // of a subscription in one answer, and in one list
	mostFrom      = 100
)

// caller is how all requests begin.
type caller struct {
	Worker      string `json:"worker"`
	Incarnation string `json:"incarnation"`
	Holding     []held `json:"holding"` // nil: nothing is said of it
}

type held struct {
	Subscription string `json:"subscription"`
	ID           int64  `json:"id"`
	Token        string `json:"token"`
}

type want struct {
	Subscription string `json:"subscription"`
	Max          int    `json:"max"`
}

type takeRequest struct {
	caller
	takePart
}

// takePart asks for jobs: in a take, and after a settle.
type takePart struct {
	From []want         `json:"from"`
	Wait sinks.Duration `json:"wait"`
}

type settleRequest struct {
	caller
	Items []item    `json:"items"`
	Take  *takePart `json:"take"`
}

type item struct {
	held
	Outcome pull.Outcome    `json:"outcome"`
	After   sinks.Duration  `json:"after"`
	Reason  string          `json:"reason"`
	Result  json.RawMessage `json:"result"`
}

type beatRequest struct {
	caller
	Progress []working `json:"progress"`
}

type working struct {
	held
	Percent float64 `json:"percent"`
	Note    string  `json:"note"`
}

// read reads a body into a request, and says whether another relay has passed it on.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, decode func(body []byte) error) (passedOn bool, err error) {
	body, err := readBody(w, r)
	if err != nil {
		return false, err
	}
	if header := r.Header.Get(access.RelayHeader); header != "" {
		var d relay.Directory
		if now := h.directory(r.Context()); now != nil {
			d = *now
		}
		if err := hop.Verify(d.Key, d.Me, header, path.Base(r.URL.Path), body); err != nil {
			return false, err
		}
		passedOn = true
	}
	return passedOn, decode(body)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, problem.New(http.StatusUnsupportedMediaType, "not_json", "Content-Type %q: must be application/json", r.Header.Get("Content-Type"))
	}
	var text bytes.Buffer
	if r.ContentLength <= longestBody {
		text.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
	}
	_, err = text.ReadFrom(http.MaxBytesReader(w, r.Body, longestBody))
	body := text.Bytes()
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, problem.New(http.StatusRequestEntityTooLarge, "too_large", "the body has more than %d bytes: send less in one request", longestBody)
	}
	if err != nil {
		return nil, invalid("the body cannot be read: %s", err)
	}
	return body, nil
}

// decode takes the quick way for what is right, and the one that explains for what is not.
func decode[T any, P interface {
	*T
	scanned
}](body []byte, into P) error {
	if scan(string(body), into) {
		return nil
	}
	*into = *new(T)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if d.Decode(into) == nil {
		if _, err := d.Token(); err == io.EOF {
			return nil
		}
	}
	if err := strict.Unmarshal(body, into); err != nil {
		return invalid("%s", err)
	}
	return nil
}

// caller checks who calls.
func (c *caller) caller() (pull.Caller, error) {
	by := pull.Caller{Worker: c.Worker, Incarnation: c.Incarnation, HoldsAll: c.Holding != nil}
	if err := checkName("worker", c.Worker, "a name that stays the same when the worker is started again, such as mailer-1"); err != nil {
		return by, err
	}
	if err := checkName("incarnation", c.Incarnation, "a text that is another one each time the worker is started, such as a UUID"); err != nil {
		return by, err
	}
	if strings.Contains(c.Incarnation, " ") {
		return by, invalid("incarnation %.60q: must have no blanks, such as a UUID", c.Incarnation)
	}
	for i, h := range c.Holding {
		if h.Subscription == "" || h.Token == "" {
			return by, invalid("holding[%d]: names no job: must have subscription, id and token as the job came with them", i)
		}
		by.Holding = append(by.Holding, h.held())
	}
	return by, nil
}

func checkName(field, name, right string) error {
	switch {
	case name == "":
		return invalid("%s: is missing: must be %s", field, right)
	case len(name) > longestName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return invalid("%s %.60q: must have at most %d bytes, all of them printable: %s", field, name, longestName, right)
	}
	return nil
}

func (h held) held() pull.Held {
	return pull.Held{Subscription: h.Subscription, ID: h.ID, Token: h.Token}
}

// wants checks what is asked for.
func (t *takePart) wants() ([]pull.Want, error) {
	if wait := time.Duration(t.Wait); wait < 0 || wait > longestWait {
		return nil, invalid("wait %s: must be from 0s to %s", wait, longestWait)
	}
	if len(t.From) == 0 || len(t.From) > mostFrom {
		return nil, invalid(`from: names %d subscriptions: must be a list of 1 to %d such as [{"subscription": "mail", "max": 10}]`, len(t.From), mostFrom)
	}
	wants := make([]pull.Want, len(t.From))
	for i, f := range t.From {
		if f.Subscription == "" {
			return nil, invalid("from[%d].subscription: is missing: must be the name of a subscription whose sink is pull:", i)
		}
		if f.Max < 1 || f.Max > mostJobs {
			return nil, invalid("from[%d].max %d: must be from 1 to %d", i, f.Max, mostJobs)
		}
		wants[i] = pull.Want{Subscription: f.Subscription, Max: f.Max}
	}
	return wants, nil
}

// items checks what is said of jobs.
func (s *settleRequest) items() ([]pull.Item, error) {
	if len(s.Items) > mostJobs {
		return nil, invalid("items: are %d: must be at most %d", len(s.Items), mostJobs)
	}
	if len(s.Items) == 0 && s.Take == nil {
		return nil, invalid(`items: are missing: must be a list such as [{"subscription": "mail", "id": 17, "token": "…", "outcome": "done"}]`)
	}
	items := make([]pull.Item, len(s.Items))
	for i := range s.Items {
		own := &s.Items[i]
		if err := own.check(); err != nil {
			return nil, invalid("items[%d].%s", i, err)
		}
		items[i] = pull.Item{Held: own.held.held(), Outcome: own.Outcome, After: time.Duration(own.After), Reason: cut(own.Reason), Result: own.result()}
	}
	return items, nil
}
