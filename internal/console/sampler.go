package console

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/admin"
)

const (
	sampleEvery = 3 * time.Second
	sampleShare = 20               // at most one part in so many of the time is spent on reading
	lookedFor   = 30 * time.Second // after the last look reading ends
	kept        = 60               // samples of each subscription
)

// sampler reads where all subscriptions stand, for all who look, while somebody looks. It remembers the lag of the last minutes.
type sampler struct {
	read   func(context.Context) (*admin.StatusReport, error)
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	looked  time.Time
	running bool
	fresh   time.Time     // what began to be read before is stale
	kick    chan struct{} // asks for a sample now
	next    chan struct{} // is closed by the next sample
	last    sample
	lags    map[string][]int64
}

// sample is what was read, or why not.
type sample struct {
	began, ended time.Time
	report       *admin.StatusReport
	err          error
}

func newSampler(read func(context.Context) (*admin.StatusReport, error)) *sampler {
	s := &sampler{read: read, kick: make(chan struct{}, 1), next: make(chan struct{}), lags: map[string][]int64{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *sampler) close() {
	s.cancel()
	s.done.Wait()
}

// stale says that what was read is not true any more.
func (s *sampler) stale() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh = time.Now()
}

// look returns where all stand, as of a few seconds ago at most. What it returns is not to be changed.
func (s *sampler) look(ctx context.Context) (*admin.StatusReport, error) {
	for {
		s.mu.Lock()
		s.looked = time.Now()
		if last := s.last; !last.began.Before(s.fresh) && time.Since(last.ended) < 2*s.pause(last) && (last.report != nil || last.err != nil) {
			s.mu.Unlock()
			return last.report, last.err
		}
		next := s.next
		s.start()
		s.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		}
	}
}

// aMoment is how long a page waits for what it can do without.
const aMoment = time.Second

// glance returns what is known, or will be in a moment; nil if nothing is: for pages that tell something else.
func (s *sampler) glance(ctx context.Context) *admin.StatusReport {
	s.mu.Lock()
	s.looked = time.Now()
	report := s.last.report
	fresh := report != nil && time.Since(s.last.ended) < lookedFor
	s.mu.Unlock()
	if fresh {
		return report
	}
	ctx, cancel := context.WithTimeout(ctx, aMoment)
	defer cancel()
	report, err := s.look(ctx)
	if err != nil {
		return nil // the page's own questions tell why
	}
	return report
}

// start makes a sample be read now.
func (s *sampler) start() {
	if !s.running && s.ctx.Err() == nil {
		s.running = true
		s.done.Go(s.run)
		return
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run reads until nobody has looked for a while.
func (s *sampler) run() {
	for {
		began := time.Now()
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		report, err := s.read(ctx)
		cancel()
		pause, goOn := s.note(sample{began, time.Now(), report, err})
		if !goOn {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.kick:
		case <-s.ctx.Done():
		}
		timer.Stop()
	}
}

func (s *sampler) pause(last sample) time.Duration {
	return max(sampleEvery, sampleShare*last.ended.Sub(last.began))
}

// note keeps a sample, and says whether another one is wanted, and when.
func (s *sampler) note(now sample) (pause time.Duration, goOn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = now
	if now.report != nil {
		lags := make(map[string][]int64, len(now.report.Subscriptions))
		for _, one := range now.report.Subscriptions {
			list := append(s.lags[one.Name], one.LagMessages)
			lags[one.Name] = slices.Clone(list[max(0, len(list)-kept):])
		}
		s.lags = lags
	}
	close(s.next)
	s.next = make(chan struct{})
	goOn = time.Since(s.looked) < lookedFor && s.ctx.Err() == nil
	if !goOn {
		s.running = false
		s.lags = map[string][]int64{} // what comes later does not join on
		select {
		case <-s.kick:
		default:
		}
	}
	return s.pause(now), goOn
}

// lagOf is the lag of the last minutes, oldest first.
func (s *sampler) lagOf(name string) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lags[name]
}
