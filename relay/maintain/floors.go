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
	said  string // what was wrong, as it was logged
}

// Job is the raising of floors as a job.
func (f *Floors) Job() Job {
	return Job{Every: floorsEvery, Turn: func(ctx context.Context) {
		_, err := f.Store.Raise(ctx)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != "" && text != f.said && ctx.Err() == nil {
			f.Log.Warn("idle subscriptions of workers fall behind", "error", err)
		}
		f.said = text
	}}
}
