package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// writeLocal runs statements as one transaction in one round trip. It does not wait for synchronous standbys: what Postrider
// writes may be derived again.
func writeLocal(ctx context.Context, pool *dbconn.Pool, queue func(*pgx.Batch)) error {
	b := &pgx.Batch{}
	b.Queue(begin.sql)
	b.Queue(localCommit.sql)
	b.Queue(limited.sql)
	queue(b)
	b.Queue(commit.sql)
	return pool.SendBatch(ctx, b).Close()
}

// read runs statements that change nothing as one transaction in one round trip.
func read(ctx context.Context, pool *dbconn.Pool, queue func(*pgx.Batch)) error {
	b := &pgx.Batch{}
	b.Queue(beginRead.sql)
	b.Queue(limited.sql)
	queue(b)
	b.Queue(commit.sql)
	return pool.SendBatch(ctx, b).Close()
}
