package feed

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/internal/async"
)

// Listen wakes the feed on every notification until ctx is cancelled. After each connect it wakes it too: PostgreSQL keeps no
// notification for later.
func (f *Feed) Listen(ctx context.Context, connect func(context.Context) (*dbconn.Conn, error)) error {
	retry := async.ReconnectBackoff()
	for {
		err := f.listenOnce(ctx, connect, func() {
			f.config.Report(Listening, nil)
			retry.Reset()
		})
		if ctx.Err() != nil {
			return nil
		}
		f.config.Report(Listening, err)
		if !async.Sleep(ctx, retry.NextBackOff()) {
			return nil
		}
	}
}

func (f *Feed) listenOnce(ctx context.Context, connect func(context.Context) (*dbconn.Conn, error), healthy func()) error {
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer dbconn.Close(conn.PgConn())
	if _, err := conn.Conn.Exec(ctx, "LISTEN postrider", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	healthy()
	async.Signal(f.wake)
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		async.Signal(f.wake)
	}
}
