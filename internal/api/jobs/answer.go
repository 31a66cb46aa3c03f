package jobs

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/postrider/postrider/sinks/pull"
)

// respond writes an answer that has been made in parts.
func respond(w http.ResponseWriter, parts ...[]byte) {
	length := 0
	for _, part := range parts {
		length += len(part)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(length))
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return // the caller is gone
		}
	}
}

var (
	begins = []byte{'{'}
	ends   = []byte(`,"quiet":false}`)
)

// aboutJob is more than what a job takes beside its texts.
const aboutJob = 320

// membersOf writes the member jobs.
func membersOf(list []pull.Job) []byte {
	size := aboutJob
	for i := range list {
		j := &list[i]
		size += aboutJob + len(j.Subscription) + len(j.Topic) + len(j.Key) + len(j.Payload) + len(j.Headers)
	}
	b := append(make([]byte, 0, size), `"jobs":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJob(b, &list[i])
	}
	return append(b, ']')
}

// appendJob writes a job by hand: there may be tens of thousands a second.
func appendJob(b []byte, j *pull.Job) []byte {
	b = append(b, `{"subscription":`...)
	b = appendText(b, j.Subscription)
	b = append(b, `,"id":`...)
	b = strconv.AppendInt(b, j.ID, 10)
	b = append(b, `,"token":`...)
	b = appendText(b, j.Token)
	b = append(b, `,"topic":`...)
	b = appendText(b, j.Topic)
	if j.Key != "" {
		b = append(b, `,"key":`...)
		b = appendText(b, j.Key)
	}
	if j.JSON {
		b = append(b, `,"payload":`...)
		b = append(b, j.Payload...)
	} else {
		b = append(b, `,"body":"`...)
		b = base64.StdEncoding.AppendEncode(b, j.Payload)
		b = append(b, '"')
	}
	if len(j.Headers) > 0 {
		b = append(b, `,"headers":`...)
		b = append(b, j.Headers...)
	}
	b = append(b, `,"created_at":"`...)
	b = j.CreatedAt.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","priority":`...)
	b = strconv.AppendInt(b, int64(j.Priority), 10)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(j.Attempt), 10)
	b = append(b, `,"max_attempts":`...)
	b = strconv.AppendInt(b, int64(j.MaxAttempts), 10)
	b = append(b, `,"deadline":"`...)
	b = j.Deadline.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	return append(b, `"}`...)
}

// appendText writes a string. Most need nothing to be escaped.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // of a string: it cannot fail
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// answersTo writes the member items, and a comma.
func answersTo(items []item, answers []pull.Answer) []byte {
	size := 16
	for i := range items {
		size += 70 + len(items[i].Subscription)
	}
	b := append(make([]byte, 0, size), `"items":[`...)
	for i, a := range answers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"subscription":`...)
		b = appendText(b, items[i].Subscription)
		b = append(b, `,"id":`...)
		b = strconv.AppendInt(b, items[i].ID, 10)
		b = append(b, `,"answer":"`...)
		b = append(b, a...)
		b = append(b, `"}`...)
	}
	return append(b, `],`...)
}

// appendHeld writes a list of what workers hold as a member.
func appendHeld(b []byte, name string, list []pull.Held) []byte {
	b = append(append(append(b, '"'), name...), `":[`...)
	for i, h := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"subscription":`...)
		b = appendText(b, h.Subscription)
		b = append(b, `,"id":`...)
		b = strconv.AppendInt(b, h.ID, 10)
		b = append(b, `,"token":`...)
		b = appendText(b, h.Token)
		b = append(b, '}')
	}
	return append(b, ']')
}
