package pubsubsink

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topicName = "projects/project-1/topics/orders"

// scene is pstest, a network that can fail, and sinks that go through it.
type scene struct {
	*pstest.Server
	iampb.UnimplementedIAMPolicyServer
	t      *testing.T
	link   *linktest.InTest
	fault  atomic.Pointer[func(*pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error)]
	grants []string
}

// React is a pstest.Reactor.
func (s *scene) React(request any) (bool, any, error) {
	f := s.fault.Load()
	if f == nil {
		return false, nil, nil
	}
	answer, err := (*f)(request.(*pubsubpb.PublishRequest))
	return answer != nil || err != nil, answer, err
}

// fail has f asked about each Publish that follows; what it says nothing of is taken.
func (s *scene) fail(f func(*pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error)) {
	s.fault.Store(&f)
}

// TestIamPermissions implements iampb.IAMPolicyServer.
func (s *scene) TestIamPermissions(context.Context, *iampb.TestIamPermissionsRequest) (*iampb.TestIamPermissionsResponse, error) {
	return &iampb.TestIamPermissionsResponse{Permissions: s.grants}, nil
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, grants: []string{permission}}
	s.Server = pstest.NewServerWithCallback(0, func(g *grpc.Server) { iampb.RegisterIAMPolicyServer(g, s) }, pstest.ServerReactorOption{FuncName: "Publish", Reactor: s})
	t.Cleanup(func() { s.Server.Close() })
	s.have()
	s.link = linktest.New(t, s.Addr)
	return s
}

func (s *scene) have() {
	s.t.Helper()
	if _, err := s.GServer.CreateTopic(context.Background(), &pubsubpb.Topic{Name: topicName}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) target(more string) sinks.Target {
	return sinks.Target{URL: "pubsub://project-1/orders", Options: fmt.Appendf(nil, `{"endpoint": "http://%s"%s}`, s.link.Addr(), more)}
}

func open(t testing.TB, target sinks.Target) sinks.Sink {
	t.Helper()
	sink, err := Destination.Open(t.Context(), target, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func (s *scene) to(target sinks.Target) sinks.Sink {
	s.t.Helper()
	sink := open(s.t, target)
	s.t.Cleanup(func() { sink.Close() })
	return sink
}

func (s *scene) deliver(sink sinks.Sink, batch ...sinks.Delivery) []error {
	return sinktest.Deliver(s.t.Context(), sink, batch...)
}

func batchOf(n int) (list []sinks.Delivery) {
	for i := range n {
		list = append(list, sinktest.NewDelivery("orders.created", fmt.Sprintf(`{"n": %d}`, i)))
	}
	return list
}

func (s *scene) received() (list []sinktest.Received) {
	for _, m := range s.Messages() {
		a := m.Attributes
		key, err := url.PathUnescape(a["postrider-key"])
		if err != nil {
			s.t.Error(err)
		}
		r := sinktest.Received{MessageID: a["ce-id"], Topic: a["ce-type"], Key: key, Payload: m.Data, ContentType: a["Content-Type"], Subscription: a["postrider-subscription"], Headers: map[string]string{}}
		if _, err := fmt.Sscan(a["postrider-attempt"], &r.Attempt); err != nil {
			s.t.Error(err)
		}
		for name, value := range a {
			r.Headers[strings.ToLower(name)] = value
		}
		list = append(list, r)
	}
	return list
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
		s := newScene(t)
		return &sinktest.Harness{
			Open: func(t testing.TB) sinks.Sink { return open(t, s.target(`, "max_message_bytes": 1000000`)) }, Received: s.received, TooLarge: 1_000_001,
			Down: s.link.Down, Hang: s.link.Hang, Up: s.link.Up,
		}
	})
}

// The key is the ordering key, and each has a call of its own; all without one go together.
func TestOrderingKeys(t *testing.T) {
	s := newScene(t)
	var calls, most atomic.Int64
	s.fail(func(r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
		calls.Add(1)
		most.Store(max(most.Load(), int64(len(r.Messages))))
		for _, m := range r.Messages {
			if m.OrderingKey != r.Messages[0].OrderingKey {
				return nil, status.Error(codes.InvalidArgument, "all messages must have one ordering key")
			}
		}
		return nil, nil
	})
	batch := batchOf(6)
	batch[1].Key, batch[3].Key = "customer-7", strings.Repeat("k", 1025)
	sinktest.WantKinds(t, s.deliver(s.to(s.target("")), batch...), make([]sinks.Kind, 6)...)
	if calls.Load() != 3 || most.Load() != 4 {
		t.Errorf("%d calls with at most %d messages, want 3 with 4", calls.Load(), most.Load())
	}
	var keys []string
	for _, m := range s.Messages() {
		keys = append(keys, m.OrderingKey)
	}
	if slices.Sort(keys); keys[4] != "customer-7" || !strings.HasPrefix(keys[5], "sha256-") || keys[3] != "" {
		t.Errorf("ordering keys %q", keys)
	}
	s.ClearMessages()
	sinktest.WantKinds(t, s.deliver(s.to(s.target(`, "unordered": true`)), batch...), make([]sinks.Kind, 6)...)
	if calls.Load() != 4 || s.Messages()[1].OrderingKey != "" {
		t.Errorf("%d calls, ordering key %q: want one call more, and none", calls.Load(), s.Messages()[1].OrderingKey)
	}
}

// After an error a key goes on by itself: messages of a key are there in order, whatever happens.
func TestOrderThroughTrouble(t *testing.T) {
	s := newScene(t)
	target := s.target("")
	target.Timeout = time.Second
	sink := s.to(target)
	var n atomic.Int64
	s.fail(func(*pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
		if n.Add(1)%4 == 0 {
			return nil, status.Error(codes.Unavailable, "try again")
		}
		return nil, nil
	})
	for i := range 20 {
		d := sinktest.NewDelivery("a", fmt.Sprint(i))
		d.Key = "k"
		if i%7 == 3 {
			s.link.Reset()
		}
		for deadline := time.Now().Add(sinktest.Patience); s.deliver(sink, d)[0] != nil; {
			if time.Now().After(deadline) {
				t.Fatal("it does not get through")
			}
		}
	}
	next := 0
	for _, r := range s.received() {
		if got := string(r.Payload); got != fmt.Sprint(next) && got != fmt.Sprint(next-1) { // one whose answer got lost is there twice
			t.Fatalf("got %s, want %d", got, next)
		} else if got == fmt.Sprint(next) {
			next++
		}
	}
	if next != 20 {
		t.Errorf("received %d, want 20", next)
	}
}

// What a call ends with is told apart: what somebody has to change, and what passes.
func TestErrors(t *testing.T) {
	s := newScene(t)
	sink := s.to(s.target(""))
	for code, want := range map[codes.Code]sinks.Kind{
		codes.NotFound: sinks.KindMisconfigured, codes.PermissionDenied: sinks.KindMisconfigured, codes.Unauthenticated: sinks.KindMisconfigured, codes.FailedPrecondition: sinks.KindMisconfigured,
		codes.ResourceExhausted: sinks.KindUnavailable, codes.Unavailable: sinks.KindUnavailable, codes.Internal: sinks.KindUnavailable, codes.Aborted: sinks.KindUnavailable, codes.Unknown: sinks.KindUnavailable,
		codes.InvalidArgument: sinks.KindPermanent, codes.OutOfRange: sinks.KindPermanent,
	} {
		calls := 0
		s.fail(func(*pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
			calls++
			return nil, status.Error(code, "for a test")
		})
		sinktest.WantText(t, s.deliver(sink, batchOf(1)...)[0], want, "for a test")
		if calls != 1 {
			t.Errorf("%v: %d calls: the library has repeated it", code, calls)
		}
	}
	s.fail(func(*pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
		return &pubsubpb.PublishResponse{MessageIds: []string{"1"}}, nil
	})
	sinktest.WantKinds(t, s.deliver(sink, batchOf(2)...), sinks.KindRetryable, sinks.KindRetryable)
	s.fault.Store(nil)
	sinktest.WantKinds(t, s.deliver(sink, batchOf(1)...), sinks.KindAccepted)
}

// A call that is refused for one of its messages is made again in halves: only the one to blame is dead, and that takes few calls.
func TestOneErrorWithinABatch(t *testing.T) {
	s := newScene(t)
	sink := s.to(s.target(""))
	const n, bad = 64, 42
	batch := batchOf(n)
	calls := 0
	s.fail(func(r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
		calls++
		for _, m := range r.Messages {
			if m.Attributes["ce-id"] == batch[bad].MessageID {
				return nil, status.Error(codes.InvalidArgument, "it breaks the schema")
			}
		}
		return nil, nil
	})
	got := s.deliver(sink, batch...)
	want := make([]sinks.Kind, n)
	want[bad] = sinks.KindPermanent
	sinktest.WantKinds(t, got, want...)
	sinktest.WantText(t, got[bad], sinks.KindPermanent, "breaks the schema")
	if calls != 1+2*6 {
		t.Errorf("%d calls, want 13", calls)
	}
	there := map[string]int{}
	for _, m := range s.Messages() {
		there[string(m.Data)]++
	}
	if len(there) != n-1 || len(s.Messages()) != n-1 || there[string(batch[bad].Payload)] > 0 {
		t.Errorf("%d messages are there, %d of them different, want each of %d once", len(s.Messages()), len(there), n-1)
	}
}

// What is written here is what the library reads: a message has these fields and no others, in as many bytes as it would take.
func TestEncoding(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	d := sinks.Delivery{Subscription: "copy", Attempt: 300, Message: &sinks.Message{MessageID: "5eed-1-1767349445678900", Topic: "a.b", Key: "Zoë", Payload: []byte(strings.Repeat("x", 200)),
		Priority: 1, Headers: []byte(`{"own":"","long":"` + strings.Repeat("y", 1024) + `","Content-type":"image/png"}`), CreatedAt: created}}
	c := settings{Options: Options{MaxMessageBytes: mostRequestBytes}}
	var m message
	ordering, err := c.render(&m, &d)
	if err != nil {
		t.Fatal(err)
	}
	var got pubsubpb.PubsubMessage
	if err := proto.Unmarshal(m.wire, &got); err != nil {
		t.Fatal(err)
	}
	want := &pubsubpb.PubsubMessage{Data: d.Payload, OrderingKey: "Zoë", Attributes: map[string]string{
		"ce-specversion": "1.0", "ce-id": d.MessageID, "ce-source": "/postrider/5eed", "ce-type": "a.b", "ce-time": "2026-01-02T03:04:05.6789Z", "postrider-subscription": "copy",
		"postrider-attempt": "300", "postrider-key": "Zo%C3%AB", "postrider-priority": "1", "own": "", "long": strings.Repeat("y", 1024), "Content-Type": "image/png"}}
	if !proto.Equal(&got, want) || ordering != want.OrderingKey || len(m.wire) != proto.Size(want) {
		t.Errorf("%d bytes, ordering key %q, of %v\nwant %d of %v", len(m.wire), ordering, &got, proto.Size(want), want)
	}
}

// No call has more messages, or more bytes, than the service takes.
func TestCallsAreBounded(t *testing.T) {
	s := newScene(t)
	target := s.target(`, "max_message_bytes": 5000`)
	target.Batch = 2500
	sink := s.to(target)
	var mu sync.Mutex // calls are made at once
	var most, largest int
	s.fail(func(r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		most, largest = max(most, len(r.Messages)), max(largest, proto.Size(r))
		return nil, nil
	})
	large := batchOf(10)
	for i := range large {
		large[i].Payload = []byte(strings.Repeat("x", 1000))
	}
	sinktest.WantKinds(t, s.deliver(sink, large...), make([]sinks.Kind, len(large))...)
	if largest > 5000 || most < 2 {
		t.Errorf("a call of %d bytes, and one with %d messages: want 5000 at most, and several", largest, most)
	}
	target = s.target("")
	sinktest.WantKinds(t, s.deliver(s.to(target), batchOf(2500)...), make([]sinks.Kind, 2500)...)
	if most != mostMessages {
		t.Errorf("a call had %d messages, want %d", most, mostMessages)
	}
}

// What can be no attribute, and what is too large, is known before anything is sent; none is left out.
func TestKnownBefore(t *testing.T) {
	s := newScene(t)
	sink := s.to(s.target(`, "max_message_bytes": 5000`))
	many := map[string]string{}
	for i := range 95 {
		many[fmt.Sprint("h", i)] = "x"
	}
	text, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	for words, headers := range map[string]string{
		"at most 1024": `{"a":"` + strings.Repeat("x", 1025) + `"}`, "begin with goog": `{"Google-x":"y"}`, "reserved": `{"ce-id":"y"}`, "100 attributes": string(text), "rename it": `{"postrider-key":"y"}`,
	} {
		batch := batchOf(3)
		batch[1].Headers = []byte(headers)
		got := s.deliver(sink, batch...)
		sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted)
		sinktest.WantText(t, got[1], sinks.KindPermanent, words)
	}
	d := sinktest.NewDelivery("a", `"`+strings.Repeat("x", 5000)+`"`)
	sinktest.WantText(t, s.deliver(sink, d)[0], sinks.KindPermanent, "max_message_bytes is 5000")
}

// What got no answer was not confirmed, though it is there; a server that is silent is waited for as long as the timeout says.
func TestLostConfirmAndSilence(t *testing.T) {
	s := newScene(t)
	target := s.target("")
	target.Timeout = 500 * time.Millisecond
	sink := s.to(target)
	for deadline := time.Now().Add(sinktest.Patience); s.deliver(sink, batchOf(1)...)[0] != nil; {
		if time.Now().After(deadline) {
			t.Fatal("it does not connect")
		}
	}
	s.ClearMessages()
	s.link.HalfOpen(linktest.ToClient)
	d := batchOf(1)[0]
	sinktest.WantText(t, s.deliver(sink, d)[0], sinks.KindUnavailable, "no answer in time")
	s.link.Up()
	for deadline := time.Now().Add(sinktest.Patience); s.deliver(sink, d)[0] != nil; {
		if time.Now().After(deadline) {
			t.Fatal("it does not recover")
		}
	}
	for _, r := range s.received() {
		if r.MessageID != d.MessageID {
			t.Errorf("received %v", r)
		}
	}
}

// What is set up wrong waits, says what to change, and is found by the doctor, who publishes nothing.
func TestSetup(t *testing.T) {
	s := newScene(t)
	examine := func(target sinks.Target) error { return Destination.Examine(t.Context(), target) }
	if err := examine(s.target("")); err != nil {
		t.Errorf("examined: %v", err)
	}
	guarded := s.target(`, "guard": {"deny": ["127.0.0.0/8"]}`)
	other := s.target("")
	other.URL = "pubsub://project-1/other"
	for words, target := range map[string]sinks.Target{"options.guard.allow": guarded, "create the topic": other} {
		sinktest.WantText(t, s.deliver(s.to(target), batchOf(1)...)[0], sinks.KindMisconfigured, words)
		if _, unfit := errors.AsType[*sinks.UnfitError](examine(target)); !unfit {
			t.Errorf("%s: it is not found", words)
		}
	}
	s.grants = nil
	if u, unfit := errors.AsType[*sinks.UnfitError](examine(s.target(""))); !unfit || !strings.Contains(u.Text, permission) {
		t.Errorf("examined without the permission: %v", u)
	}
	if n := len(s.Messages()); n != 0 {
		t.Errorf("%d messages were published", n)
	}
	// A server without TLS, and nobody to say who we are.
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("HOME", t.TempDir())
	none := open(t, sinks.Target{URL: "pubsub://project-1/orders"}).(*sink)
	defer none.Close()
	if _, err := none.GetRequestMetadata(t.Context()); err == nil || !strings.Contains(err.Error(), "instance_metadata") {
		t.Errorf("without credentials: %v", err)
	}
}

// keyFile writes the key of a service account.
func keyFile(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "postrider@project-1.iam.gserviceaccount.com", "private_key_id": "1", "token_uri": "https://127.0.0.1:1/",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A service account's key makes tokens without asking anybody. What cannot be one is said when it is read, without its text.
func TestCredentials(t *testing.T) {
	keyed := open(t, sinks.Target{URL: "pubsub://project-1/orders", Options: fmt.Appendf(nil, `{"credentials": "file:%s"}`, keyFile(t))}).(*sink)
	defer keyed.Close()
	got, err := keyed.GetRequestMetadata(t.Context())
	if err != nil || !strings.HasPrefix(got["authorization"], "Bearer ey") {
		t.Fatalf("%v, %v", got, err)
	}
	if text := keyed.secrets.Redactor.Redact(got["authorization"]); strings.Contains(text, "ey") {
		t.Errorf("the token shows: %s", text)
	}
	t.Setenv("POSTRIDER_SECRET_K", `{"hunter22": 1}`)
	_, err = Destination.Open(t.Context(), sinks.Target{URL: "pubsub://project-1/orders", Options: []byte(`{"credentials": "env:POSTRIDER_SECRET_K"}`)}, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err == nil || strings.Contains(err.Error(), "hunter22") {
		t.Errorf("opened with no key: %v", err)
	}
}

// What is wrong with a target is said with the setting, and what would be right.
func TestBadTargets(t *testing.T) {
	const u = "pubsub://project-1/orders"
	for _, c := range []struct{ url, options, want string }{
		{"pubsub://project-1", "", "pubsub://project/topic"}, {"pubsub:x", "", "pubsub://project/topic"}, {"pubsub://joe:hunter22@project-1/orders", "", "pubsub://project/topic"},
		{"pubsub://P/orders", "", "lower-case"}, {"pubsub://project-1/a b", "", "letters"}, {"pubsub://project-1/google", "", "goog"}, {u + "?x=y", "", `"x"`},
		{u + "?endpoint=http://h", `{"endpoint": "http://h"}`, "twice"}, {u, `{"endpoint": "ftp://h"}`, "https://"}, {u, `{"endpoint": "https://h/p"}`, "without a path"},
		{u, `{"endpoint": "https://evilgoogleapis.com"}`, "not a host of Google"}, {u, `{"endpoint": "http://h", "credentials": "env:X"}`, "emulator"},
		{u, `{"credentials": "hunter22"}`, "credentials"}, {u, `{"credentials": "env:X", "instance_metadata": true}`, "one of them"}, {u, `{"max_message_bytes": 10000001}`, "10000000"},
		{u, `{"guard": {"deny": ["x"]}}`, "CIDR"}, {u, `{"tls": {"ca": "x"}}`, "absolute path"}, {u, `{"ordered": true}`, "ordered"},
	} {
		err := Destination.Check(sinks.Target{URL: c.url, Options: []byte(c.options)}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q in it", c.url, c.options, err, c.want)
		} else if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s %s: a secret shows: %v", c.url, c.options, err)
		}
	}
	for _, good := range []string{u, "pubsub://example.com:project-1/orders", u + "?endpoint=https://europe-west3-pubsub.googleapis.com"} {
		if err := Destination.Check(sinks.Target{URL: good}, nil); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}
