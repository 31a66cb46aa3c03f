package jobs

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/postrider/postrider/sinks/pull"
)

// respond writes an answer whose members begin is followed by: jobs, if there are any to be told, and quiet.
func respond(w http.ResponseWriter, members []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(members)))
	w.Write(members)
}

// appendJobs writes the member jobs.
func appendJobs(b []byte, list []pull.Job) []byte {
	b = append(b, `"jobs":[`...)
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

// appendAnswers writes the member items.
func appendAnswers(b []byte, items []item, answers []pull.Answer) []byte {
	b = append(b, `"items":[`...)
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
	return append(b, ']')
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
