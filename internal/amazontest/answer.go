package amazontest

import (
	"crypto/md5"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
)

func (q *request) refuse(w http.ResponseWriter, f *Fault) {
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	status := f.Status
	if status == 0 {
		status = 400
	}
	if q.json {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.sqs#" + f.Code, "message": f.Message}) // the client may be gone
		return
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>r</RequestId></ErrorResponse>", f.Code, escape(f.Message))
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes all
	return b.String()
}

func (q *request) answer(w http.ResponseWriter, host string, most int, results []result) {
	if !q.json {
		q.answerXML(w, most, results)
		return
	}
	out := map[string]any{}
	switch q.action {
	case "GetQueueUrl":
		out["QueueUrl"] = "http://" + host + "/000000000000/" + q.name
	case "GetQueueAttributes":
		out["Attributes"] = map[string]string{"MaximumMessageSize": fmt.Sprint(most)}
	default:
		var good, bad []map[string]any
		for _, r := range results {
			if r.failed != nil {
				bad = append(bad, map[string]any{"Id": r.entry.Id, "Code": r.failed.Code, "Message": r.failed.Message, "SenderFault": !r.failed.ServerFault})
			} else {
				good = append(good, map[string]any{"Id": r.entry.Id, "MessageId": "m-" + r.entry.id(), "MD5OfMessageBody": fmt.Sprintf("%x", md5.Sum([]byte(r.entry.MessageBody)))})
			}
		}
		out["Successful"], out["Failed"] = good, bad
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_ = json.NewEncoder(w).Encode(out) // the client may be gone
}

func (q *request) answerXML(w io.Writer, most int, results []result) {
	var good, bad strings.Builder
	for _, r := range results {
		if r.failed != nil {
			fmt.Fprintf(&bad, "<member><Id>%s</Id><Code>%s</Code><Message>%s</Message><SenderFault>%v</SenderFault></member>", r.entry.Id, r.failed.Code, escape(r.failed.Message), !r.failed.ServerFault)
		} else {
			fmt.Fprintf(&good, "<member><Id>%s</Id><MessageId>m-%s</MessageId></member>", r.entry.Id, escape(r.entry.id()))
		}
	}
	if q.action == "GetTopicAttributes" {
		fmt.Fprintf(w, "<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes><entry><key>MaximumMessageSize</key><value>%d</value></entry></Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>", most)
		return
	}
	fmt.Fprintf(w, "<PublishBatchResponse><PublishBatchResult><Successful>%s</Successful><Failed>%s</Failed></PublishBatchResult></PublishBatchResponse>", &good, &bad)
}
