package admin

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// ShardHolder is who holds a shard of a sql: subscription: a worker that has taken messages in a transaction.
type ShardHolder struct {
	Subscription string     `json:"subscription"`
	Shard        int        `json:"shard"`
	Holder       string     `json:"holder"`
	Since        *time.Time `json:"since"`
}

// ShardHolders lists who holds shards now, a thousand at most.
func ShardHolders(ctx context.Context, db Querier) ([]ShardHolder, error) {
	rows, err := db.Query(ctx, "SELECT subscription, shard, holder, since FROM postrider.shard_holders() ORDER BY subscription, shard LIMIT 1000")
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]ShardHolder{}, rows, pgx.RowToStructByPos[ShardHolder])
}
