package interop

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook"
)

// goReceiver verifies and parses with the libraries for Go.
type goReceiver struct {
	t      *testing.T
	keys   keys
	events []event.Event // tests deliver one request after another
}

func (r *goReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err == nil {
		err = r.keys.verify(req.Header, body)
	}
	if err == nil {
		req.Body = io.NopCloser(bytes.NewReader(body))
		err = r.parse(req, body)
	}
	if err != nil {
		r.t.Errorf("%s: %v\n%v\n%s", req.Header.Get("Content-Type"), err, req.Header, body)
		w.WriteHeader(http.StatusTeapot)
	}
}

func (r *goReceiver) parse(req *http.Request, body []byte) error {
	switch {
	case cehttp.IsHTTPBatch(req.Header):
		events, err := cehttp.NewEventsFromHTTPRequest(req)
		r.events = append(r.events, events...)
		return err
	case req.Header.Get("Content-Type") == "application/x-ndjson":
		for line := range bytes.Lines(body) {
			var e event.Event
			if err := json.Unmarshal(line, &e); err != nil {
				return err
			}
			r.events = append(r.events, e)
		}
		return nil
	}
	e, err := cehttp.NewEventFromHTTPRequest(req)
	if err == nil {
		r.events = append(r.events, *e)
	}
	return err
}

func TestGoLibraries(t *testing.T) {
	k := newKeys(t)
	refs := k.setEnv(t)
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			r := &goReceiver{t: t, keys: k}
			srv := httptest.NewServer(r)
			t.Cleanup(srv.Close)
			s := open(t, srv.URL, webhook.Options{Format: format, Secrets: refs})
			all := samples()
			var batch []sinks.Delivery
			for _, one := range all {
				batch = append(batch, one.Delivery)
			}
			deliver(t, s, batch...)
			if len(r.events) != len(all) {
				t.Fatalf("%d events arrived, want %d", len(r.events), len(all))
			}
			for i, want := range all {
				wantEvent(t, format, r.events[i], want)
			}
		})
	}
}

func wantEvent(t *testing.T, format string, e event.Event, want sample) {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Errorf("%s: %v", want.MessageID, err)
	}
	if e.SpecVersion() != "1.0" || e.ID() != want.MessageID || e.Source() != "/postrider/5eed0123" || e.Type() != want.Topic ||
		e.Subject() != want.Key || !e.Time().Equal(want.CreatedAt) || e.DataContentType() != want.contentType {
		t.Errorf("arrived as\n%v\nwant %+v", e, want.Message)
	}
	if !bytes.Equal(e.Data(), want.Payload) {
		t.Errorf("%s: the data is %q, want %q", want.MessageID, e.Data(), want.Payload)
	}
	ext := e.Extensions()
	if want.Key != "" && ext["partitionkey"] != want.Key {
		t.Errorf("%s: the extensions are %v, want partitionkey %q", want.MessageID, ext, want.Key)
	}
	if format == webhook.FormatBinary {
		return
	}
	if ext["postridertopic"] != want.Topic || ext["postriderattempt"] != int32(1) {
		t.Errorf("%s: the extensions are %v, want the topic and attempt 1", want.MessageID, ext)
	}
	own, err := want.HeaderMap()
	if err != nil {
		t.Fatal(err)
	}
	for name, attribute := range map[string]string{"traceparent": "traceparent", "X-Shop-Id": "xshopid"} {
		if v, ok := own[name]; ok && ext[attribute] != v {
			t.Errorf("%s: the extensions are %v, want %s %q", want.MessageID, ext, attribute, v)
		}
	}
}
