package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/postrider/postrider/sinks"
)

// examineTimeout leaves time for other destinations.
const examineTimeout = 4 * time.Second

// examine looks at the cluster and the topic.
func examine(ctx context.Context, t sinks.Target) (err error) {
	s, err := open(t, sinks.Surroundings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, examineTimeout) // the client tries as long as it may
	defer cancel()
	return s.examine(ctx)
}

func (s *Sink) examine(ctx context.Context) error {
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	req.Topics = []kmsg.MetadataRequestTopic{}
	if s.Topic != "" {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(s.Topic)
		req.Topics = append(req.Topics, topic)
	}
	res, err := req.RequestWith(ctx, s.client)
	if err != nil {
		if ctx.Err() != nil { // then the client says no more than that
			err = s.withTrouble(err)
		}
		return s.unfit(err)
	}
	if len(res.Topics) != 1 {
		return nil // each message names its own
	}
	topic := &res.Topics[0]
	if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
		return s.unfit(err)
	}
	const unsaid = -1 << 31
	if may := topic.AuthorizedOperations; may != unsaid && may>>int(kmsg.ACLOperationWrite)&1 == 0 && may>>int(kmsg.ACLOperationAll)&1 == 0 {
		return s.unfit(kerr.TopicAuthorizationFailed)
	}
	return s.examineTopic(ctx, topic)
}

// unfit makes of an error what keeps the destination from confirming anything, if it does: one that may pass stays an error.
func (s *Sink) unfit(err error) error {
	of := ""
	if s.Topic != "" {
		of = "topic " + s.Topic + ": "
	}
	var remedy string
	switch e, ok := errors.AsType[*kerr.Error](err); {
	case ok && e == kerr.UnknownTopicOrPartition:
		remedy = fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s", s.brokers[0], s.Topic)
	case ok && mistakes[e] != "":
		remedy = mistakes[e]
	case sinks.IsTLSRefusal(err):
		remedy = "correct the options of tls, or the brokers' certificates"
	default:
		return err
	}
	return &sinks.UnfitError{Text: of + s.redact(err).Error(), Remedy: remedy}
}

// examineTopic looks for what lets a topic lose messages that it has confirmed, or refuse some.
func (s *Sink) examineTopic(ctx context.Context, topic *kmsg.MetadataResponseTopic) error {
	config, err := s.topicConfig(ctx)
	if err != nil {
		return err
	}
	alter := func(setting, value string) string {
		return fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config %s=%s", s.brokers[0], s.Topic, setting, value)
	}
	copies := 0
	for i, p := range topic.Partitions {
		if n := len(p.Replicas); i == 0 || n < copies {
			copies = n
		}
	}
	largest, _ := strconv.Atoi(config["max.message.bytes"])
	switch {
	case copies == 1:
		return &sinks.UnfitError{Risk: true, Text: fmt.Sprintf("topic %s has one replica: what it has confirmed is lost with that broker", s.Topic),
			Remedy: "kafka-reassign-partitions.sh: give it three replicas, and min.insync.replicas=2"}
	case config["min.insync.replicas"] == "1":
		return &sinks.UnfitError{Risk: true, Text: fmt.Sprintf("topic %s has min.insync.replicas 1: what it has confirmed may be on one broker alone, and is lost with that", s.Topic),
			Remedy: alter("min.insync.replicas", "2")}
	case largest > 0 && largest < s.MaxMessageBytes:
		return &sinks.UnfitError{Risk: true, Text: fmt.Sprintf("topic %s has max.message.bytes %d, and max_message_bytes is %d: messages between are sent one by one, and become dead letters", s.Topic, largest, s.MaxMessageBytes),
			Remedy: alter("max.message.bytes", strconv.Itoa(s.MaxMessageBytes)) + ", or lower max_message_bytes"}
	case slices.Contains(strings.Split(config["cleanup.policy"], ","), "compact"):
		return &sinks.UnfitError{Risk: true, Text: fmt.Sprintf("topic %s is compacted: it keeps the last message of each key, and refuses those without one", s.Topic),
			Remedy: alter("cleanup.policy", "delete") + ", unless that is wanted"}
	}
	return nil
}

// topicConfig is the topic's configuration. Nobody has to be allowed to see it: then it is empty.
func (s *Sink) topicConfig(ctx context.Context) (map[string]string, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	topic := kmsg.NewDescribeConfigsRequestResource()
	topic.ResourceType, topic.ResourceName = kmsg.ConfigResourceTypeTopic, s.Topic
	topic.ConfigNames = []string{"min.insync.replicas", "max.message.bytes", "cleanup.policy"}
	req.Resources = append(req.Resources, topic)
	res, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return nil, err
	}
	config := make(map[string]string)
	for _, r := range res.Resources {
		for _, c := range r.Configs {
			if c.Value != nil {
				config[c.Name] = *c.Value
			}
		}
	}
	return config, nil
}
