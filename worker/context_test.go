package worker_test

import (
	"context"
	"strings"
	"testing"

	"github.com/postrider/postrider/worker"
)

// A handler gets the context that Config.Context makes of its own and of the job; a panic there is one of the job's.
func TestContextOfAHandler(t *testing.T) {
	type key struct{}
	type outer struct{}
	var got, above any
	w, err := worker.New(worker.Pull("http://127.0.0.1:1"), worker.Config{
		Name: "w",
		Context: func(ctx context.Context, job *worker.Job) context.Context {
			return context.WithValue(ctx, key{}, job.Headers["traceparent"][:5])
		},
		Routes: []worker.Route{{Subscription: "a", Handle: func(ctx context.Context, _ *worker.Job) error {
			got, above = ctx.Value(key{}), ctx.Value(outer{})
			return nil
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(t.Context(), outer{}, "above")
	out := w.Do(ctx, nil, &worker.Job{Subscription: "a", Topic: "t", Headers: map[string]string{"traceparent": "00-12-34-01"}})
	if out.Kind != "done" || got != "00-12" || above != "above" {
		t.Errorf("%+v, with %v and %v", out, got, above)
	}
	if out := w.Do(ctx, nil, &worker.Job{Subscription: "a", Topic: "t"}); out.Kind != "retry" || !strings.HasPrefix(out.Reason, "panic: ") {
		t.Errorf("without the header it became %+v", out)
	}
}
