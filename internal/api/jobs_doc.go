package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/sinks/pull"
)

// What follows is what package api/jobs reads and writes, for the document alone.

// JobCaller is how workers' requests begin.
type JobCaller struct {
	Worker      string    `json:"worker" maxLength:"200" doc:"Stays the same when the worker is started again." example:"mailer-1"`
	Incarnation string    `json:"incarnation" maxLength:"200" doc:"Another text each time the worker is started, without blanks." example:"b8c1f2d0"`
	Holding     []JobHeld `json:"holding,omitempty" doc:"All that the worker has; what is not named goes to others. Left out: nothing is said of it."`
}

// JobHeld names a job.
type JobHeld struct {
	Subscription string `json:"subscription"`
	ID           int64  `json:"id,omitempty"`
	Token        string `json:"token" doc:"As the job came with it."`
}

// JobTake asks for jobs.
type JobTake struct {
	From []JobWant `json:"from" minItems:"1" maxItems:"100" doc:"Served in this order."`
	Wait string    `json:"wait,omitempty" doc:"How long the call waits if there is nothing: up to 30s." example:"30s"`
}

// JobWant is how many jobs of a subscription are asked for.
type JobWant struct {
	Subscription string `json:"subscription"`
	Max          int    `json:"max" minimum:"1" maximum:"1000"`
}

// JobItem is what came of a job.
type JobItem struct {
	JobHeld
	Outcome string          `json:"outcome" enum:"done,retry,dead,snooze,release"`
	After   string          `json:"after,omitempty" doc:"Of retry and snooze: the wait." example:"30s"`
	Reason  string          `json:"reason,omitempty"`
	Result  json.RawMessage `json:"result,omitempty" doc:"Of done: any JSON up to 64 KiB, which is kept."`
}

// JobProgress is how far a job is.
type JobProgress struct {
	JobHeld
	Percent float64 `json:"percent,omitempty" minimum:"0" maximum:"100"`
	Note    string  `json:"note,omitempty"`
}

// JobGiven is a job that is handed out.
type JobGiven struct {
	JobHeld
	Topic       string            `json:"topic"`
	Key         string            `json:"key,omitempty"`
	Payload     json.RawMessage   `json:"payload,omitempty"`
	Body        []byte            `json:"body,omitempty" doc:"In place of payload, of a message of bytes."`
	Headers     map[string]string `json:"headers,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
	Priority    int               `json:"priority"`
	Attempt     int               `json:"attempt"`
	MaxAttempts int               `json:"max_attempts"`
	Deadline    time.Time         `json:"deadline" doc:"The attempt has failed then, unless progress is told of."`
}

// JobsGiven are jobs that are handed out.
type JobsGiven struct {
	Jobs  []JobGiven `json:"jobs"`
	Quiet bool       `json:"quiet" doc:"The worker should take nothing more."`
}

// JobAnswer is what is said of an item.
type JobAnswer struct {
	Subscription string `json:"subscription"`
	ID           int64  `json:"id"`
	Answer       string `json:"answer" enum:"ok,moving,late,unknown,cancelled"`
}

type (
	jobsTakeRequest struct {
		JobCaller
		JobTake
	}
	jobsSettleRequest struct {
		JobCaller
		Items []JobItem `json:"items,omitempty" maxItems:"1000"`
		Take  *JobTake  `json:"take,omitempty" doc:"Asks for the next jobs, too."`
	}
	jobsBeatRequest struct {
		JobCaller
		Progress []JobProgress `json:"progress,omitempty" maxItems:"1000"`
	}
	jobsSettleAnswer struct {
		Items []JobAnswer `json:"items"`
		JobsGiven
	}
	jobsBeatAnswer struct {
		Cancel []JobHeld `json:"cancel" doc:"What the worker should stop: somebody has cancelled it."`
		Lost   []JobHeld `json:"lost" doc:"What the worker thinks that it has, and does not."`
		Quiet  bool      `json:"quiet"`
	}
	jobsWorkersAnswer struct {
		Workers       []pull.WorkerStatus `json:"workers"`
		Subscriptions []pull.LineStatus   `json:"subscriptions"`
	}
)

// describeEvents puts what package api/events serves into the document.
func describeEvents(doc *huma.OpenAPI) {
	many := func(name, text string, item *huma.Schema) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: text + " May be there several times.", Schema: &huma.Schema{Type: huma.TypeArray, Items: item}}
	}
	word := &huma.Schema{Type: huma.TypeString}
	own := &huma.Operation{OperationID: "listen", Method: http.MethodGet, Path: prefix + "/events", Tags: []string{"events"}, Summary: "Listen to what becomes of messages, while it happens",
		Description: "A stream of server-sent events: snapshot first, then change (of a message), subscription (its status) and gap (something was missed; a snapshot follows).\n\nRole: viewer.",
		Extensions:  map[string]any{"x-role": access.Viewer.String(), "x-stream": true}, Responses: map[string]*huma.Response{},
		Parameters: []*huma.Param{
			many("subscription", "Of this subscription.", word), many("status", "With this status.", word), many("topic", "Whose topic this pattern matches.", word),
			many("key", "With this key.", word), many("id", "Of this message.", &huma.Schema{Type: huma.TypeInteger, Format: "int64"}),
			{Name: "Last-Event-ID", In: "header", Description: "The id of the last event that the listener got.", Schema: word},
		}}
	own.Responses["200"] = &huma.Response{Description: "A stream that does not end", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: word}}}
	for _, status := range []int{400, 401, 403, 503} {
		own.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status),
			Content: map[string]*huma.MediaType{"application/problem+json": {Schema: doc.Components.Schemas.Schema(reflect.TypeFor[problem.Details](), true, "")}}}
	}
	doc.AddOperation(own)
}

// describeJobs puts what package api/jobs serves into the document.
func describeJobs(doc *huma.OpenAPI) {
	for _, o := range []struct {
		id, method, path, summary string
		need                      access.Role
		request, answer           any
	}{
		{"take-jobs", http.MethodPost, "take", "Take jobs of pull: subscriptions, and wait for some", access.Worker, jobsTakeRequest{}, JobsGiven{}},
		{"settle-jobs", http.MethodPost, "settle", "Say what came of jobs; may ask for the next ones", access.Worker, jobsSettleRequest{}, jobsSettleAnswer{}},
		{"beat", http.MethodPost, "beat", "Say that the worker lives, what it has, and how far it is", access.Worker, jobsBeatRequest{}, jobsBeatAnswer{}},
		{"list-workers", http.MethodGet, "workers", "Who has called this relay, and what waits for workers here", access.Viewer, nil, jobsWorkersAnswer{}},
	} {
		own := &huma.Operation{OperationID: o.id, Method: o.method, Path: prefix + "/jobs/" + o.path, Tags: []string{"jobs"}, Summary: o.summary,
			Description: "Role: " + o.need.String() + ".", Extensions: map[string]any{"x-role": o.need.String()}, Responses: map[string]*huma.Response{}}
		content := func(kind string, value any) map[string]*huma.MediaType {
			t := reflect.TypeOf(value)
			return map[string]*huma.MediaType{kind: {Schema: doc.Components.Schemas.Schema(t, true, "")}}
		}
		if o.request != nil {
			own.RequestBody = &huma.RequestBody{Required: true, Content: content("application/json", o.request)}
		}
		own.Responses["200"] = &huma.Response{Description: http.StatusText(http.StatusOK), Content: content("application/json", o.answer)}
		for _, status := range []int{400, 401, 403, 404, 409, 413, 415, 421, 503} {
			own.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: content("application/problem+json", problem.Details{})}
		}
		doc.AddOperation(own)
	}
}
