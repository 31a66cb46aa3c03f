package main

import (
	"context"
	"testing"

	"github.com/postrider/postrider/worker"
)

// Where there are tokens, jobs are for workers that show one, of their subscriptions alone, whichever relay they ask; and workers of
// different tokens do not replace each other.
func TestTokensOfWorkers(t *testing.T) {
	const mailer, texter, viewer = "mailer-0123456789abcdef", "texter-0123456789abcdef", "viewer-0123456789abcdef"
	db := newDB(t)
	bases, owners := pair(t, db, true, "MAILER="+mailer, "TEXTER="+texter, "VIEWER="+viewer,
		"POSTRIDER_API_TOKENS=mailer:worker[mail]=env:MAILER, texter:worker[sms]=env:TEXTER, viewer:viewer=env:VIEWER")
	as := func(base, token string) *jobWorker {
		w := newJobWorker(t, base, "w")
		w.bearer = token
		return w
	}
	for subscription, token := range map[string]string{"mail": mailer, "sms": texter} {
		away := bases[1-owners[subscription]]
		other := map[string]string{mailer: texter, texter: mailer}[token]
		from := []any{map[string]any{"subscription": subscription, "max": 5}}
		for name, c := range map[string]struct {
			token  string
			status int
			code   string
		}{
			"nobody":         {"", 401, "unauthorized"},
			"a guess":        {"guess-0123456789abcdef", 401, "unauthorized"},
			"a viewer":       {viewer, 403, "forbidden"},
			"another worker": {other, 403, "forbidden"},
		} {
			a := as(away, c.token).call("take", map[string]any{"from": from})
			if a.status != c.status || a.Code != c.code {
				t.Errorf("%s takes of %s: %d %s %s", name, subscription, a.status, a.Code, a.Detail)
			}
		}
		db.Exec(t, "SELECT postrider.enqueue($1, '{}')", subscription+".x")
		w := as(away, token)
		job := w.take(1, "from", from)[0]
		stranger := as(away, other)
		stranger.incarnation = "another"
		if a := stranger.call("beat", map[string]any{"holding": []any{}}); a.status != 200 {
			t.Errorf("a beat of another token's: %d %s", a.status, a.Detail)
		}
		if a := stranger.call("settle", map[string]any{"items": []any{job.is("dead")}}); a.status != 403 {
			t.Errorf("another token settles: %d %s", a.status, a.answers)
		}
		w.settle("ok", job.is("done"))
	}

	db.Exec(t, "SELECT postrider.enqueue('mail.x', '{}')")
	did := make(chan int64, 1)
	own, err := worker.New(worker.Pull(bases[0]), worker.Config{Token: mailer, Routes: []worker.Route{{Subscription: "mail", Handle: func(_ context.Context, job *worker.Job) error {
		did <- job.ID
		return nil
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- own.Run(ctx) }()
	select {
	case <-did:
	case err := <-ended:
		t.Fatalf("the worker ended: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
