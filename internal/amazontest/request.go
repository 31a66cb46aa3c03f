package amazontest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// request is one of either protocol.
type request struct {
	action, name string
	json         bool
	entries      []entry
}

type entry struct {
	Id, MessageBody, MessageGroupId, MessageDeduplicationId string
	MessageAttributes                                       map[string]struct{ DataType, StringValue string }
}

func (e *entry) id() string { return e.MessageAttributes["message_id"].StringValue }

func read(r *http.Request, body []byte) (*request, *Fault) {
	q := &request{}
	if target, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS."); ok {
		q.action, q.json = target, true
		var in struct {
			QueueName, QueueUrl string
			Entries             []entry
		}
		if err := json.Unmarshal(body, &in); err != nil {
			return q, &Fault{Code: "SerializationException", Message: err.Error()}
		}
		q.name, q.entries = in.QueueName, in.Entries
		if in.QueueUrl != "" {
			q.name = in.QueueUrl[strings.LastIndex(in.QueueUrl, "/")+1:]
		}
		return q, nil
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return q, &Fault{Code: "MalformedQueryString", Message: err.Error()}
	}
	q.action = form.Get("Action")
	arn := form.Get("TopicArn")
	q.name = arn[strings.LastIndex(arn, ":")+1:]
	for i := 1; ; i++ {
		at := fmt.Sprintf("PublishBatchRequestEntries.member.%d.", i)
		if !form.Has(at + "Id") {
			return q, nil
		}
		e := entry{Id: form.Get(at + "Id"), MessageBody: form.Get(at + "Message"), MessageGroupId: form.Get(at + "MessageGroupId"), MessageDeduplicationId: form.Get(at + "MessageDeduplicationId"),
			MessageAttributes: map[string]struct{ DataType, StringValue string }{}}
		for n := 1; ; n++ {
			a := fmt.Sprintf("%sMessageAttributes.entry.%d.", at, n)
			if !form.Has(a + "Name") {
				break
			}
			e.MessageAttributes[form.Get(a+"Name")] = struct{ DataType, StringValue string }{form.Get(a + "Value.DataType"), form.Get(a + "Value.StringValue")}
		}
		q.entries = append(q.entries, e)
	}
}
