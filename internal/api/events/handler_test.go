package events

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/relay/watch"
)

// stage is a handler behind a server whose requests may take a moment only.
type stage struct {
	t      *testing.T
	feed   *watch.Feed
	server *httptest.Server
	away   atomic.Bool // the database
}

const short = 100 * time.Millisecond

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, feed: &watch.Feed{}}
	h := New(Config{Feed: s.feed,
		Directory: func(context.Context, ...string) *relay.Directory { return &relay.Directory{Me: "me"} },
		Status: func(context.Context) (*admin.StatusReport, error) {
			if s.away.Load() {
				return nil, errors.New("the database is away")
			}
			return &admin.StatusReport{Subscriptions: []admin.SubscriptionStatus{{Name: "mail", State: "active"}}}, nil
		},
		Message: func(_ context.Context, id int64) (*admin.Deliveries, error) {
			return &admin.Deliveries{ID: id, List: []admin.Delivery{{Subscription: "mail", Status: "delivered", Result: []byte(`"geheim"`)}}}, nil
		}})
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(access.With(r.Context(), access.Identity{Role: access.Viewer})))
	}))
	s.server.Config.ReadTimeout, s.server.Config.WriteTimeout = short, short
	s.server.Start()
	t.Cleanup(s.server.Close)
	return s
}

// listen returns a function that reads the next event, its kind and its data.
func (s *stage) listen(query string) (next func() (kind, data string)) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.server.URL+Path+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := s.server.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cancel(); res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	return func() (kind, data string) {
		s.t.Helper()
		for lines.Scan() {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
			case "event":
				kind = value
			case "data":
				return kind, value
			}
		}
		s.t.Fatalf("the stream has ended: %v", lines.Err())
		return "", ""
	}
}

// TestStreamsOutliveRequests: what bounds a request does not end a stream.
func TestStreamsOutliveRequests(t *testing.T) {
	s := newStage(t)
	next := s.listen("")
	next()
	<-time.After(4 * short) // both limits have passed
	s.feed.Tell(watch.Change{Subscription: "mail", ID: 7, Status: "delivered"})
	if kind, data := next(); kind != "change" || !strings.Contains(data, `"id":7`) {
		t.Errorf("%s %s", kind, data)
	}
}

// TestWhatIsMissedIsTold, though nothing else happens; and then there is a snapshot.
func TestWhatIsMissedIsTold(t *testing.T) {
	s := newStage(t)
	next := s.listen("")
	next()
	s.feed.Miss()
	if kind, _ := next(); kind != "gap" {
		t.Errorf("told of a %s", kind)
	}
	if kind, data := next(); kind != "snapshot" || !strings.Contains(data, `"name":"mail"`) {
		t.Errorf("%s %s", kind, data)
	}
}

// TestUnknownIsNotNothing: a snapshot without the database says so, and later what it lacked is told.
func TestUnknownIsNotNothing(t *testing.T) {
	s := newStage(t)
	s.away.Store(true)
	next := s.listen("")
	if kind, data := next(); kind != "snapshot" || !strings.Contains(data, `"subscriptions":null`) {
		t.Errorf("%s %s", kind, data)
	}
	s.away.Store(false)
	if kind, data := next(); kind != "subscription" || !strings.Contains(data, `"name":"mail"`) {
		t.Errorf("%s %s", kind, data)
	}
}

// TestSnapshotsHoldNoResults: a result may hold what the message carries.
func TestSnapshotsHoldNoResults(t *testing.T) {
	s := newStage(t)
	if _, data := s.listen("?id=7")(); !strings.Contains(data, `"id":7`) || strings.Contains(data, "geheim") {
		t.Error(data)
	}
}
