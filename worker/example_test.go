package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

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
