package maintain

import (
	"context"
	"log/slog"
	"time"

	"github.com/postrider/postrider/relay/store"
)

// Records keeps results and attempts for the retention, and not for much longer.
type Records struct {
	Store store.Records
	Keep  time.Duration
	Log   *slog.Logger
}

// Job is the emptying of their segments as a job.
func (r *Records) Job() Job {
	return Job{every: min(max(r.Keep/store.SegmentCount, time.Second), retentionMost), turn: once(r.Log, "old results and attempts stay", func(ctx context.Context) error {
		_, err := r.Store.Empty(ctx, r.Keep)
		return err
	})}
}
