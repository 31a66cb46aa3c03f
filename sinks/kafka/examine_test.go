package kafkasink

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/postrider/postrider/sinks"
)

func TestExamine(t *testing.T) {
	k := startKafka(t, kfake.ListenFn(net.Listen), kfake.NumBrokers(3))
	for name, config := range map[string]map[string]string{
		"safe":      {"min.insync.replicas": "2"},
		"one":       {"min.insync.replicas": "1"},
		"small":     {"min.insync.replicas": "2", "max.message.bytes": "5000"},
		"compacted": {"min.insync.replicas": "2", "cleanup.policy": "compact"},
	} {
		if err := k.CreateTopic(name, 1, config); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct {
		risk         bool
		text, remedy string
	}{
		"":          {},
		"safe":      {},
		"one":       {true, "min.insync.replicas 1", "--add-config min.insync.replicas=2"},
		"small":     {true, "max.message.bytes 5000, and max_message_bytes is 1000012", "lower max_message_bytes"},
		"compacted": {true, "is compacted", "cleanup.policy=delete"},
		"missing":   {false, "UNKNOWN_TOPIC_OR_PARTITION", "--create --topic missing"},
	} {
		err := Destination.Examine(t.Context(), sinks.Target{URL: "kafka://" + k.ListenAddrs()[0] + "/" + name})
		unfit, ok := errors.AsType[*sinks.UnfitError](err)
		switch {
		case want.text == "" && err == nil:
		case !ok || unfit.Risk != want.risk || !strings.Contains(unfit.Text, want.text) || !strings.Contains(unfit.Remedy, want.remedy):
			t.Errorf("topic %q: %v, %+v, want %+v", name, err, unfit, want)
		}
	}
	if k.TopicInfo("missing") != nil {
		t.Error("the topic was made")
	}
	err := Destination.Examine(t.Context(), startKafka(t).target(""))
	if unfit, ok := errors.AsType[*sinks.UnfitError](err); !ok || !unfit.Risk || !strings.Contains(unfit.Text, "has one replica") {
		t.Errorf("one replica: %v", err)
	}
}

// Who may not write is told so before the first message; a broker that cannot be reached is left to its relay.
func TestExaminePermissions(t *testing.T) {
	acl := func(op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "orders", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	k := startKafka(t, kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.User("PLAIN", "reader", "geheim", acl(kmsg.ACLOperationDescribe), acl(kmsg.ACLOperationDescribeConfigs)), kfake.User("PLAIN", "stranger", "geheim"),
		kfake.User("PLAIN", "writer", "geheim", acl(kmsg.ACLOperationWrite), acl(kmsg.ACLOperationDescribe)))
	t.Setenv("POSTRIDER_SECRET_RIGHT", "geheim")
	t.Setenv("POSTRIDER_SECRET_WRONG", "geheim-wrong")
	// A broker says why, and then ends the connection; the fake one ends it at once.
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, TopLevel: true, Err: kerr.SaslAuthenticationFailed, Count: -1, When: func(req kmsg.Request) bool {
		return strings.HasSuffix(string(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes), "geheim-wrong")
	}})
	for user, want := range map[string]string{
		"reader RIGHT": "allow it WRITE", "stranger RIGHT": "allow it WRITE", "writer WRONG": "correct the options user and password", "writer RIGHT": "",
	} {
		name, password, _ := strings.Cut(user, " ")
		target := k.target(fmt.Sprintf(`{"mechanism": "PLAIN", "user": %q, "password": "env:POSTRIDER_SECRET_%s"}`, name, password))
		err := Destination.Examine(t.Context(), target)
		unfit, ok := errors.AsType[*sinks.UnfitError](err)
		if !ok || unfit.Risk != (want == "") || !strings.Contains(unfit.Remedy, want) { // that it has one replica is a risk
			t.Errorf("%s: %v, %+v, want %q", user, err, unfit, want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: the password shows: %v", user, err)
		}
	}
	k.link.Down()
	err := Destination.Examine(t.Context(), sinks.Target{URL: "kafka://" + k.link.Addr() + "/orders", Options: json.RawMessage(`{}`)})
	if _, ok := errors.AsType[*sinks.UnfitError](err); ok || err == nil {
		t.Errorf("a broker that is down: %v", err)
	}
}
