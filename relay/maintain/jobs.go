package maintain

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/relay/internal/async"
)

// Job is work that comes round. It deals with its own errors.
type Job struct {
	Every time.Duration             // between the end of one turn and the next
	Begin func(ctx context.Context) // the first turn; nil: as all others
	Turn  func(ctx context.Context) // must end soon when ctx is cancelled
}

// Run carries the jobs out side by side until ctx is cancelled.
func Run(ctx context.Context, jobs ...Job) error {
	var group errgroup.Group
	for _, j := range jobs {
		group.Go(func() error {
			turn := j.Turn
			if j.Begin != nil {
				turn = j.Begin
			}
			for {
				turn(ctx)
				turn = j.Turn
				if !async.Sleep(ctx, j.Every) {
					return nil
				}
			}
		})
	}
	return group.Wait()
}
