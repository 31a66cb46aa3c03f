package sqssink

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/amazontest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/amazon"
	"github.com/postrider/postrider/sinks/sinktest"
)

func batchOf(n int) (list []sinks.Delivery) {
	for i := range n {
		list = append(list, sinktest.NewDelivery("orders.created", fmt.Sprintf(`{"n": %d}`, i)))
	}
	return list
}

// A message has at most eight attributes of ours, and those two that are asked for.
func TestMessage(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", `, "attributes": ["region", "empty"]`))
	d := sinktest.NewDelivery("orders.created", "\x00binary")
	d.JSON, d.Key, d.Priority, d.Attempt = false, "Zoë 1", 1, 3
	d.Headers = []byte(`{"region":"eu","empty":"","text":"a\u0001b\uffffc","Content-Type":"image/png"}`)
	noncharacter := sinktest.NewDelivery("a", "\"x\uFFFFy\"")
	sinktest.WantKinds(t, s.deliver(sink, d, noncharacter), sinks.KindAccepted, sinks.KindAccepted)
	got := s.Taken()[0]
	if want := []string{"content_encoding", "content_type", "created_at", "headers", "key", "message_id", "priority", "region", "topic"}; !slices.Equal(slices.Sorted(maps.Keys(got.Attributes)), want) {
		t.Errorf("attributes %v, want %q", got.Attributes, want)
	}
	if got.Body != "AGJpbmFyeQ==" || got.Attributes["key"] != "Zo%C3%AB%201" || got.Attributes["content_type"] != "image/png" || got.Attributes["region"] != "eu" || got.Attributes["priority"] != "1" {
		t.Errorf("took %+v", got)
	}
	var own map[string]string
	if err := json.Unmarshal([]byte(got.Attributes["headers"]), &own); err != nil || own["text"] != "a\x01b\uFFFFc" || own["empty"] != "" || len(own) != 4 {
		t.Errorf("headers %q: %v", got.Attributes["headers"], err)
	}
	if body := s.Taken()[1].Body; body != `"x\uffffy"` {
		t.Errorf("the body is %q", body)
	}
}

// On a FIFO queue the key is the group, as far as it can be one, and the message id says what is repeated.
func TestFIFO(t *testing.T) {
	s := newScene(t, "orders.fifo")
	sink := s.to(s.target("orders.fifo", ""))
	batch := batchOf(4)
	batch[0].Key, batch[1].Key, batch[2].Key = "customer-7", "Zoë", strings.Repeat("k", 129)
	for range 2 { // the second time nothing is new
		sinktest.WantKinds(t, s.deliver(sink, batch...), make([]sinks.Kind, 4)...)
	}
	got := s.Taken()
	if len(got) != 4 || got[0].Group != "customer-7" || got[3].Group != batch[3].MessageID {
		t.Fatalf("took %+v", got)
	}
	for i := range got {
		if got[i].Deduplication != batch[i].MessageID || i == 1 || i == 2 {
			if !strings.HasPrefix(got[i].Group, "sha256-") || len(got[i].Group) != 71 {
				t.Errorf("message %d has the group %q, deduplication %q", i, got[i].Group, got[i].Deduplication)
			}
		}
	}
	if got[1].Group == got[2].Group {
		t.Error("two keys have one group")
	}
}

// Ten messages go in one request at most, and no more bytes than it takes in all.
func TestBatches(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", ""))
	sinktest.WantKinds(t, s.deliver(sink, batchOf(23)...), make([]sinks.Kind, 23)...)
	if got := s.Batches(); !slices.Equal(got, []int{10, 10, 3}) {
		t.Errorf("requests of %v messages, want 10, 10, 3", got)
	}
	large := batchOf(5)
	for i := range large {
		large[i].Payload = []byte(`"` + strings.Repeat("x", 100_000) + `"`)
	}
	sinktest.WantKinds(t, s.deliver(sink, large...), make([]sinks.Kind, 5)...)
	if got := s.Batches()[3:]; !slices.Equal(got, []int{2, 2, 1}) {
		t.Errorf("requests of %v messages, want 2, 2, 1", got)
	}
}

// What is too large is known before it is sent, to the byte, attributes included; a queue that takes more can be used.
func TestTooLargeIsKnownBefore(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", `, "max_message_bytes": 1000`))
	s.Takes(1000)
	d := sinktest.NewDelivery("a", `""`)
	d.Headers = []byte(`{"a":"b"}`)
	sinktest.WantKinds(t, s.deliver(sink, d), sinks.KindAccepted)
	size := len(`""`)
	for name, value := range s.Taken()[0].Attributes {
		size += len(name) + len("String") + len(value)
	}
	d.Payload = []byte(`"` + strings.Repeat("x", 1000-size) + `"`)
	sinktest.WantKinds(t, s.deliver(sink, d), sinks.KindAccepted)
	d.Payload = []byte(`"` + strings.Repeat("x", 1001-size) + `"`)
	n := len(s.Batches())
	sinktest.WantText(t, s.deliver(sink, d)[0], sinks.KindPermanent, "1001 bytes", "max_message_bytes is 1000")
	if len(s.Batches()) != n {
		t.Error("it was sent")
	}
	s.Takes(1 << 20)
	large := s.to(s.target("orders", `, "max_message_bytes": 1048576`))
	d.Payload = []byte(`"` + strings.Repeat("x", 1_000_000) + `"`)
	sinktest.WantKinds(t, s.deliver(large, d), sinks.KindAccepted)
}

// Each entry of an answer counts for its own message: nothing is accepted that is not in Successful.
func TestOneErrorWithinABatch(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", ""))
	for name, c := range map[string]struct {
		fault amazontest.Fault
		kind  sinks.Kind
		words string
	}{
		"its contents":     {amazontest.Fault{Code: "InvalidMessageContents", Message: "no"}, sinks.KindPermanent, "InvalidMessageContents: no"},
		"throttled":        {amazontest.Fault{Code: "ThrottlingException", ServerFault: true}, sinks.KindUnavailable, "ThrottlingException"},
		"of the server":    {amazontest.Fault{Code: "InternalError", ServerFault: true}, sinks.KindUnavailable, "InternalError"},
		"KMS":              {amazontest.Fault{Code: "KMS.KmsAccessDeniedException", Message: "no"}, sinks.KindMisconfigured, "AccessDenied"},
		"unknown":          {amazontest.Fault{Code: "SomethingNew", Message: "new"}, sinks.KindRetryable, "SomethingNew: new"},
		"nothing is said":  {amazontest.Fault{Silent: true}, sinks.KindRetryable, "says nothing"},
		"server's content": {amazontest.Fault{Code: "InvalidParameterValue", ServerFault: true}, sinks.KindRetryable, "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			batch := batchOf(3)
			c.fault.Entry = batch[1].MessageID
			s.Fail(func(string, []string) *amazontest.Fault { return &c.fault })
			got := s.deliver(sink, batch...)
			sinktest.WantKinds(t, got, sinks.KindAccepted, c.kind, sinks.KindAccepted)
			sinktest.WantText(t, got[1], c.kind, c.words)
		})
	}
}

// A request that is refused for one of its messages is sent again one by one: only the one to blame is dead.
func TestRefusedBatch(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", ""))
	batch := batchOf(4)
	for _, code := range []string{"InvalidMessageContents", "AWS.SimpleQueueService.BatchRequestTooLong", "InvalidParameterValue"} {
		s.Fail(func(_ string, ids []string) *amazontest.Fault {
			if slices.Contains(ids, batch[2].MessageID) {
				return &amazontest.Fault{Code: code, Message: "not this one"}
			}
			return nil
		})
		got := s.deliver(sink, batch...)
		sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted)
		sinktest.WantText(t, got[2], sinks.KindPermanent, "not this one")
	}
}

// What a request ends with is told apart: what somebody has to change, and what passes.
func TestRequestErrors(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", ""))
	for _, c := range []struct {
		fault amazontest.Fault
		kind  sinks.Kind
		words []string
	}{
		{amazontest.Fault{Status: 429, Code: "TooManyRequestsException"}, sinks.KindUnavailable, nil},
		{amazontest.Fault{Code: "ThrottlingException", Message: "Rate exceeded"}, sinks.KindUnavailable, []string{"ThrottlingException: Rate exceeded"}},
		{amazontest.Fault{Code: "AWS.SimpleQueueService.RequestThrottled"}, sinks.KindUnavailable, nil},
		{amazontest.Fault{Status: 503, Code: "ServiceUnavailable"}, sinks.KindUnavailable, nil},
		{amazontest.Fault{Status: 500, Code: "SomethingNew"}, sinks.KindUnavailable, nil},
		{amazontest.Fault{Status: 403, Code: "AccessDenied", Message: "not authorized to perform: sqs:sendmessage"}, sinks.KindMisconfigured, []string{"sqs:sendmessage", "permissions"}},
		{amazontest.Fault{Status: 403, Code: "SomethingNew"}, sinks.KindMisconfigured, nil},
		{amazontest.Fault{Code: "ExpiredTokenException"}, sinks.KindMisconfigured, []string{"expired"}},
		{amazontest.Fault{Status: 403, Code: "RequestExpired"}, sinks.KindMisconfigured, []string{"clock"}},
		{amazontest.Fault{Code: "KMS.DisabledException"}, sinks.KindRetryable, nil}, // not a code of SQS
		{amazontest.Fault{Code: "KmsDisabled"}, sinks.KindMisconfigured, nil},
		{amazontest.Fault{Code: "SomethingNew", Message: "new"}, sinks.KindRetryable, []string{"SomethingNew: new"}},
		{amazontest.Fault{Status: 302, Code: "x", Header: http.Header{"Location": {"http://127.0.0.1:1/"}}}, sinks.KindMisconfigured, nil},
	} {
		t.Run(fmt.Sprint(c.fault.Status, c.fault.Code), func(t *testing.T) {
			s.Fail(func(string, []string) *amazontest.Fault { return &c.fault })
			got := s.deliver(sink, batchOf(2)...)
			sinktest.WantKinds(t, got, c.kind, c.kind)
			sinktest.WantText(t, got[0], c.kind, c.words...)
			s.Fail(nil)
			sinktest.WantKinds(t, s.deliver(sink, batchOf(1)...), sinks.KindAccepted)
		})
	}
	s.Fail(func(string, []string) *amazontest.Fault {
		return &amazontest.Fault{Status: 503, Code: "ServiceUnavailable", Header: http.Header{"Retry-After": {"7"}}}
	})
	if _, after := sinks.Classify(s.deliver(sink, batchOf(1)...)[0]); after.Seconds() != 7 {
		t.Errorf("waits for %v, was told 7s", after)
	}
}

// What is set up wrong waits, says what to change, and is found by the doctor, who sends nothing.
func TestSetup(t *testing.T) {
	s := newScene(t, "orders")
	t.Setenv("POSTRIDER_SECRET_W", "wrong-one")
	good := s.target("orders", "")
	with := func(old, new string) sinks.Target {
		return sinks.Target{URL: good.URL, Options: []byte(strings.Replace(string(good.Options), old, new, 1))}
	}
	for name, c := range map[string]struct {
		target sinks.Target
		words  string
	}{
		"no such queue": {s.target("other", ""), "create it"},
		"secret":        {with("POSTRIDER_SECRET_KEY", "POSTRIDER_SECRET_W"), "secret_access_key is wrong"},
		"id":            {with(amazontest.AccessKeyID, "AKIANOBODY"), "InvalidClientTokenId"},
		"guard":         {s.target("orders", `, "guard": {"deny": ["127.0.0.0/8"]}`), "options.guard.allow"},
		"no TLS there":  {with("http://", "https://"), "HTTPS"},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.deliver(s.to(c.target), batchOf(1)...)[0]
			if name == "no TLS there" {
				sinktest.WantText(t, got, sinks.KindMisconfigured, "TLS")
			} else {
				sinktest.WantText(t, got, sinks.KindMisconfigured, c.words)
			}
			if strings.Contains(got.Error(), "wrong-one") {
				t.Errorf("the secret shows: %v", got)
			}
			err := Destination.Examine(t.Context(), c.target)
			if _, unfit := errors.AsType[*sinks.UnfitError](err); !unfit {
				t.Errorf("examined: %v, want an UnfitError", err)
			}
		})
	}
	if err := Destination.Examine(t.Context(), good); err != nil {
		t.Errorf("examined: %v", err)
	}
	s.Takes(1024)
	err := Destination.Examine(t.Context(), good)
	if u, ok := errors.AsType[*sinks.UnfitError](err); !ok || !u.Risk || !strings.Contains(u.Text, "1024") {
		t.Errorf("examined a queue that takes less: %v", err)
	}
	if n := len(s.Taken()); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}

// Without keys in the options those of the surroundings are used, and the machine's metadata service is not asked.
func TestSurroundings(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	nowhere := t.TempDir() + "/none"
	t.Setenv("AWS_CONFIG_FILE", nowhere)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
	asked := make(chan struct{}, 8)
	metadata := newScene(t)
	metadata.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		w.WriteHeader(http.StatusNotFound)
	})
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	without := open(t, sinks.Target{URL: "sqs://orders?region=eu-central-1"})
	defer without.Close()
	sinktest.WantText(t, sinktest.Deliver(t.Context(), without, batchOf(1)...)[0], sinks.KindMisconfigured, "no credentials", "access_key_id", "instance_metadata")
	if len(asked) != 0 {
		t.Error("the metadata service was asked")
	}
	wanted := open(t, sinks.Target{URL: "sqs://orders?region=eu-central-1", Options: []byte(`{"instance_metadata": true}`)})
	defer wanted.Close()
	sinktest.WantText(t, sinktest.Deliver(t.Context(), wanted, batchOf(1)...)[0], sinks.KindMisconfigured, "no credentials")
	if len(asked) == 0 {
		t.Error("the metadata service was not asked, though that is wanted")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", amazontest.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "of-the-surroundings")
	from := open(t, sinks.Target{URL: "sqs://orders?region=eu-central-1"}).(*amazon.Sink)
	defer from.Close()
	if found, err := from.Link.Retrieve(t.Context()); err != nil || found.AccessKeyID != amazontest.AccessKeyID {
		t.Errorf("found %q, %v", found.AccessKeyID, err)
	}
	if text := from.Link.Redact().Redact("x of-the-surroundings y"); strings.Contains(text, "surroundings") {
		t.Errorf("its secret shows: %s", text)
	}
}

// What is wrong with a target is said with the setting, and what would be right.
func TestBadTargets(t *testing.T) {
	const u = "sqs://orders?region=eu-central-1"
	for _, c := range []struct{ url, options, want string }{
		{"sqs://orders", "", "names no region"}, {"sqs://joe:hunter22@orders?region=eu-central-1", "", "reference"}, {"sqs://or.ders?region=eu-central-1", "", "letters, digits"},
		{"sqs://?region=eu-central-1", "", "name"}, {"sqs://orders/x?region=eu-central-1", "", "sqs://orders"}, {"sqs://orders?region=Frankfurt", "", "eu-central-1"},
		{u + "&x=y", "", `"x"`}, {u + "&region=eu-west-1", "", "twice"}, {u + "&endpoint=http://h", `{"endpoint": "http://h"}`, "twice"},
		{"sqs:orders", "", "ARN"}, {"sqs:arn:aws:sns:eu-central-1:123456789012:orders", "", "arn:aws:sqs"}, {"sqs:arn:aws:sqs:eu-central-1:12:orders", "", "12 digits"},
		{"sqs:arn:aws:sqs:eu-central-1:123456789012:orders?region=eu-west-1", "", "beside the ARN"}, {"sqs://" + strings.Repeat("x", 81) + "?region=eu-central-1", "", "at most 80"},
		{u, `{"endpoint": "ftp://h"}`, "https://host"}, {u, `{"endpoint": "https://h/p"}`, "without a path"}, {u, `{"endpoint": "http://localhost:4566"}`, "access_key_id"},
		{u, `{"endpoint": "https://evil-amazonaws.com"}`, "not a host of AWS"}, {u, `{"endpoint": "http://h", "tls": {"ca": "/x"}}`, "https"},
		{u, `{"max_message_bytes": -1}`, "1048576"}, {u, `{"max_message_bytes": 1048577}`, "1048576"}, {u, `{"attributes": ["a", "b", "c"]}`, "at most 2"},
		{u, `{"attributes": ["AWS.x"]}`, "AWS."}, {u, `{"attributes": ["a b"]}`, "letters"}, {u, `{"attributes": ["topic"]}`, `"topic"`}, {u, `{"attributes": ["a", "a"]}`, "twice"},
		{u, `{"access_key_id": "x"}`, "takes both"}, {u, `{"access_key_id": "x", "secret_access_key": "hunter22"}`, "secret_access_key"}, {u, `{"session_token": "env:X"}`, "takes both"},
		{u, `{"access_key_id": "x", "secret_access_key": "env:X", "instance_metadata": true}`, "one of them"}, {u, `{"guard": {"deny": ["x"]}}`, "CIDR"},
		{u, `{"tls": {"ca": "x"}}`, "absolute path"}, {u, `{"regon": "x"}`, "regon"},
	} {
		err := Destination.Check(sinks.Target{URL: c.url, Options: []byte(c.options)}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q in it", c.url, c.options, err, c.want)
		} else if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s %s: a secret shows: %v", c.url, c.options, err)
		}
	}
	for _, good := range []string{u, "sqs://Orders_1.fifo?region=us-gov-west-1", "sqs:arn:aws-cn:sqs:cn-north-1:123456789012:orders", u + "&endpoint=https://vpce-1.sqs.eu-central-1.vpce.amazonaws.com"} {
		if err := Destination.Check(sinks.Target{URL: good}, nil); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}
