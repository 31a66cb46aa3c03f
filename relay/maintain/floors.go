package maintain

import (
	"context"
	"log/slog"
	"time"

	"github.com/postrider/postrider/relay/store"
)

// floorsEvery is how far behind an idle subscription's workers may look, in time.
const floorsEvery = 15 * time.Second

// Floors keeps subscriptions that workers take from in SQL from falling behind while nothing is new for them.
type Floors struct {
	Store store.Floors
	Log   *slog.Logger
}

// Job is the raising of floors as a job.
func (f *Floors) Job() Job {
	return Job{every: floorsEvery, turn: once(f.Log, "idle subscriptions of workers fall behind", func(ctx context.Context) error {
		_, err := f.Store.Raise(ctx)
		return err
	})}
}
