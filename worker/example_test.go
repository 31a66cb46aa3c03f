package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/worker"
)

// A worker does the jobs of a subscription until its context is cancelled.
func ExampleNew() {
	server, end := newExampleServer() // stands for a relay with POSTRIDER_API_ADDR=127.0.0.1:8090
	defer end()
	server.Add("mail", outbox.Message{Topic: "mail.welcome", Payload: map[string]string{"to": "ada@example.com"}})

	ctx, stop := context.WithCancel(context.Background())
	w, err := worker.New(worker.Pull(server.URL()), worker.Config{
		Name: "mailer",
		Routes: []worker.Route{{Subscription: "mail", Topic: "mail.*", Handle: func(_ context.Context, job *worker.Job) error {
			defer stop() // a real one works on
			var mail struct{ To string }
			if err := job.Decode(&mail); err != nil {
				return worker.Dead(err) // further attempts would not help
			}
			fmt.Println(job.Topic, "to", mail.To, "attempt", job.Attempt)
			return nil
		}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(w.Run(ctx))
	// Output:
	// mail.welcome to ada@example.com attempt 1
	// <nil>
}

// With OpenTelemetry, a handler continues the trace in which its job was enqueued, with its baggage.
func ExampleConfig_context() {
	server, end := newExampleServer()
	defer end()
	server.Add("mail", outbox.Message{Topic: "mail.welcome", Payload: "ada", Headers: map[string]string{
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "tenant=7",
	}})

	propagators := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}) // or otel.GetTextMapPropagator()
	tracer := otel.Tracer("mailer")                                                                             // of the provider that the program has set
	ctx, stop := context.WithCancel(context.Background())
	w, err := worker.New(worker.Pull(server.URL()), worker.Config{
		Name: "mailer",
		Context: func(ctx context.Context, job *worker.Job) context.Context {
			return propagators.Extract(ctx, propagation.MapCarrier(job.Headers))
		},
		Routes: []worker.Route{{Subscription: "mail", Handle: func(ctx context.Context, job *worker.Job) error {
			defer stop() // a real one works on
			ctx, span := tracer.Start(ctx, "process "+job.Topic, trace.WithSpanKind(trace.SpanKindConsumer))
			defer span.End()
			fmt.Println(span.SpanContext().TraceID(), baggage.FromContext(ctx).Member("tenant").Value())
			return nil
		}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(w.Run(ctx))
	// Output:
	// 0af7651916cd43dd8448eb211c80319c 7
	// <nil>
}

// Do runs a handler as a worker would and tells what would become of the job.
func ExampleWorker_Do() {
	limited := errors.New("429 Too Many Requests")
	w, err := worker.New(worker.Pull("http://127.0.0.1:8090"), worker.Config{Name: "w", Routes: []worker.Route{
		{Subscription: "calls", Handle: func(context.Context, *worker.Job) error { return worker.Retry(limited, time.Minute) }},
	}})
	if err != nil {
		log.Fatal(err)
	}
	out := w.Do(context.Background(), nil, &worker.Job{Subscription: "calls", Topic: "calls.made"})
	fmt.Println(out.Kind, out.After, out.Reason)
	// Output: retry 1m0s 429 Too Many Requests
}
