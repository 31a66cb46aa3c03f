package worker

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// listen wakes the poller at each notification, over a connection of its own, until ctx is cancelled.
func (r *sqlRun) listen(ctx context.Context) {
	for wait := retryFirst; ctx.Err() == nil; wait = later(wait) {
		began := time.Now()
		err := r.hear(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			wait = retryFirst
		}
		r.cfg.Logger.Warn("worker: cannot listen, polls meanwhile", "worker", r.cfg.Name, "error", err, "again in", wait)
		sleep(ctx, wait)
	}
}

func (r *sqlRun) hear(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, r.pool.Config().ConnConfig.Copy())
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // nothing of it is wanted any more
	}()
	for _, statement := range []string{"SET idle_session_timeout = 0", "LISTEN postrider"} { // it is idle between notifications, however long that is
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	for {
		tell(r.notified) // the first time, for what came before
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}
