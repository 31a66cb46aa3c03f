package maintain

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/internal/async"
)

// Job is work that comes round. It deals with its own errors.
type Job struct {
	every time.Duration             // between the end of one turn and the next
	begin func(ctx context.Context) // the first turn; nil: as all others
	turn  func(ctx context.Context) // must end soon when ctx is cancelled
}

// Run carries the jobs out side by side until ctx is cancelled.
func Run(ctx context.Context, jobs ...Job) error {
	var group errgroup.Group
	for _, j := range jobs {
		group.Go(func() error {
			turn := j.turn
			if j.begin != nil {
				turn = j.begin
			}
			for {
				turn(ctx)
				turn = j.turn
				if !async.Sleep(ctx, j.every) {
					return nil
				}
			}
		})
	}
	return group.Wait()
}

// once makes a turn of what may fail, which it logs once per reason; a database that is away is told of elsewhere.
func once(log *slog.Logger, what string, do func(context.Context) error) func(context.Context) {
	said := ""
	return func(ctx context.Context) {
		text := ""
		if err := do(ctx); err != nil && !dberr.Away(err) {
			text = err.Error()
		}
		if text != "" && text != said && ctx.Err() == nil {
			log.Warn(what, "error", text)
		}
		said = text
	}
}
