package worker

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// SQL takes jobs of sql: subscriptions inside transactions of the pool's database.
func SQL(pool *pgxpool.Pool) Source { return &sqlSource{pool} }

type sqlSource struct{ pool *pgxpool.Pool }

func (*sqlSource) concurrency() int { return 4 }

func (s *sqlSource) run(ctx context.Context, w *Worker) error { return nil }
