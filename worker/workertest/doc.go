// Package workertest tests an application's handlers without a relay.
//
// [Deliver] needs a transaction alone: what the application has enqueued in it is handed to the worker's handlers here and now, and the
// test looks at what became of it. Nothing is committed, nothing waits.
//
//	func TestWelcomeMail(t *testing.T) {
//		tx := begin(t)                           // rolled back at the end
//		signUp(ctx, tx, "ada@example.com")       // enqueues mail.welcome
//		got := workertest.Deliver(t, w, tx)      // w, of worker.New, has the handler for it
//		if len(got) != 1 || got[0].Outcome.Kind != "done" { … }
//	}
//
// [Server] is a relay's HTTP verbs in memory, for a worker that runs with [worker.Pull] as it does in earnest: with beats, lost answers,
// jobs that are cancelled or go to others.
//
//	server := workertest.NewServer(t)
//	w, err := worker.New(worker.Pull(server.URL()), worker.Config{…})
//	id := server.Add("mail", outbox.Message{Topic: "mail.welcome", Payload: …})
//	go w.Run(ctx)
//	state := server.Await(t, id, "done")
package workertest
