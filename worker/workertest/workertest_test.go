package workertest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/worker"
	"github.com/postrider/postrider/worker/workertest"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		_, err := migrations.Up(context.Background(), url)
		return err
	})
	pgtest.Main(m)
}

type signUp struct{ Mail string }

// shop is an application's worker: a welcome mail is recorded, and asks for a survey; some addresses are refused.
func shop(t *testing.T) *worker.Worker {
	w, err := worker.New(worker.Pull("http://127.0.0.1:8090"), worker.Config{Name: "shop", Routes: []worker.Route{
		{Subscription: "mail", Topic: "mail.welcome", Handle: func(ctx context.Context, job *worker.Job) error {
			var s signUp
			if err := job.Decode(&s); err != nil {
				return worker.Dead(err)
			}
			if _, err := job.Tx().Exec(ctx, "INSERT INTO sent VALUES ($1)", s.Mail); err != nil {
				return err
			}
			if !strings.Contains(s.Mail, "@") {
				return errors.New("no address: " + s.Mail)
			}
			_, err := outbox.Enqueue(ctx, job.Tx(), outbox.Message{Topic: "mail.survey", Key: s.Mail, Payload: s})
			return err
		}},
		{Subscription: "mail", Topic: "mail.survey", Handle: func(context.Context, *worker.Job) error { return nil }},
		{Subscription: "audit", Topic: "mail.*", Handle: func(context.Context, *worker.Job) error { return worker.Snooze(1) }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func begin(t *testing.T) pgx.Tx {
	db := pgtest.New(t)
	db.Exec(t, "CREATE TABLE sent (mail text)")
	tx, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// Each message that is enqueued runs through its handlers at once, and so does what these enqueue; what a failed job has written is undone.
func TestDeliver(t *testing.T) {
	tx := begin(t)
	for _, mail := range []string{"ada@example.com", "nobody"} {
		if _, err := outbox.Enqueue(t.Context(), tx, outbox.Message{Topic: "mail.welcome", Payload: signUp{mail}}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, d := range workertest.Deliver(t, shop(t), tx) {
		got = append(got, d.Job.Subscription+" "+d.Job.Topic+" "+d.Outcome.Kind+" "+d.Outcome.Reason)
	}
	want := []string{"mail mail.welcome done ", "audit mail.welcome snooze snoozed for 1ms", "mail mail.welcome retry no address: nobody",
		"audit mail.welcome snooze snoozed for 1ms", "mail mail.survey done ", "audit mail.survey snooze snoozed for 1ms"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var sent int
	if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM sent").Scan(&sent); err != nil || sent != 1 {
		t.Errorf("%d rows were written (%v), want 1", sent, err)
	}
}

// A handler cannot end the transaction that is the worker's.
func TestTransactionIsTheWorkers(t *testing.T) {
	tx := begin(t)
	if _, err := outbox.Enqueue(t.Context(), tx, outbox.Message{Topic: "a", Payload: 1}); err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(worker.Pull("http://x"), worker.Config{Routes: []worker.Route{{Subscription: "s", Handle: func(ctx context.Context, job *worker.Job) error {
		return errors.Join(job.Tx().Commit(ctx), job.Tx().Rollback(ctx))
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	list := workertest.Deliver(t, w, tx)
	if len(list) != 1 || strings.Count(list[0].Outcome.Reason, "the worker ends the transaction") != 2 {
		t.Errorf("%+v", list)
	}
}
