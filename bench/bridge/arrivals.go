package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/system"
)

// ear takes arrivals down in the bench's own process.
type ear struct {
	mu       sync.Mutex
	arrivals *env.Arrivals
	stop     func()
}

var errDeaf = errors.New("nobody listens to the destination")

// listen begins anew; stop ends what hears.
func (e *ear) listen(stop func()) *env.Arrivals {
	e.end()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrivals, e.stop = &env.Arrivals{}, stop
	return e.arrivals
}

// end ends what hears, if there is somebody.
func (e *ear) end() {
	e.mu.Lock()
	stop := e.stop
	e.arrivals, e.stop = nil, nil
	e.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (e *ear) heard() (*env.Arrivals, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.arrivals == nil {
		return nil, errDeaf
	}
	return e.arrivals, nil
}

// Arrived implements Server.
func (e *ear) Arrived(context.Context) (int64, error) {
	a, err := e.heard()
	if err != nil {
		return 0, err
	}
	return a.Count(), nil
}

// Times implements Server.
func (e *ear) Times(context.Context) ([]int64, error) {
	a, err := e.heard()
	if err != nil {
		return nil, err
	}
	return a.Times(), nil
}

func note(a *env.Arrivals, payload []byte) { a.Add(system.Number(payload), time.Now()) }
