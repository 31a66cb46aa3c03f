package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Pull takes jobs of pull: subscriptions over HTTP, from a relay whose POSTRIDER_API_ADDR the URL names, such as http://127.0.0.1:8090. With
// several URLs it goes on to the next one when a relay does not answer.
func Pull(urls ...string) Source { return &pullSource{urls: urls} }

type pullSource struct{ urls []string }

func (*pullSource) concurrency() int { return 10 }

func (s *pullSource) run(ctx context.Context, w *Worker) error {
	var urls []string
	for _, u := range s.urls {
		parsed, err := url.Parse(u)
		if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
			return &ConfigError{"the URL of Pull", u, "give one such as http://127.0.0.1:8090"}
		}
		urls = append(urls, strings.TrimSuffix(u, "/"))
	}
	if len(urls) == 0 {
		return errors.New("worker: Pull has no URL: give one such as http://127.0.0.1:8090")
	}
	p := &puller{Worker: w, client: newClient(urls, w.cfg.Token), incarnation: rand.Text(), signals: newSignals(), held: map[ref]*heldJob{}, free: w.cfg.Concurrency}
	defer p.client.close()
	return p.run(ctx)
}

// puller is one run of a worker with Pull.
//
// One goroutine takes and, with the same request, settles; one settles what ends while that waits for jobs; one beats. Each job has one.
// A take and a beat are never out together: a beat lists all that the worker holds, and what a take is just bringing it could not list.
type puller struct {
	*Worker
	client      *client
	incarnation string
	signals

	mu      sync.Mutex
	held    map[ref]*heldJob // until a relay has answered what became of it
	waiting []*heldJob       // for a free slot
	done    []item           // to be settled
	free    int              // slots
	quiet   bool             // no more jobs are wanted
	unclear bool             // a take's answer did not arrive: the relay may think that we hold more than we do
	cut     context.CancelFunc

	jobs   sync.WaitGroup
	lateMu sync.Mutex // one OnLate at a time
}

// signals are channels with room for one element.
type signals struct {
	call      chan struct{} // has an element while a take or a beat is out
	changed   chan struct{} // a job has ended, or a slot is free
	settleNow chan struct{} // a job has ended
	beatNow   chan struct{} // there is progress to tell, or what is held is unclear
}

func newSignals() signals {
	return signals{make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)}
}

// heldJob is a job that is here.
type heldJob struct {
	ref      ref
	job      *Job
	cancel   context.CancelCauseFunc // nil before it runs
	ended    bool
	stopped  error         // ErrLost or ErrCancelled, once the relay has said so
	progress *progress     // not told yet
	moved    time.Duration // how long to wait before what became of it is told once more, when nobody could take that
}

func (p *puller) run(ctx context.Context) error {
	handlers, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	calls, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	var talk sync.WaitGroup
	talk.Go(func() { p.settleAll(calls) })
	talk.Go(func() { p.beatAll(calls) })
	err := p.takeAll(ctx, handlers)
	p.refuse()
	if replaced(err) {
		abandon(ErrLost)
	}
	left := p.drain(abandon)
	abandon(ErrShutdown)
	if err == nil {
		p.farewell(calls, left)
	}
	hangUp()
	talk.Wait()
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("worker: %d handlers went on after their context was cancelled; their jobs were released", left))
	}
	return err
}
