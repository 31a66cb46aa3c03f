package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// producers run transactions of every kind side by side: short ones, ones that stay open over several rounds of the reader,
// ones that roll back, or roll a savepoint back, or are prepared and committed from elsewhere.
type producers struct {
	pool  *pgxpool.Pool
	name  string       // of the database: prepared transactions have names that are the cluster's
	round atomic.Int64 // of the reader
	turn  *sync.Cond
	over  bool
}

func newProducers(b *bench) *producers {
	return &producers{pool: b.App, name: b.DB.Name, turn: sync.NewCond(&sync.Mutex{})}
}

// next says that the reader has made another round.
func (p *producers) next() {
	p.turn.L.Lock()
	p.round.Add(1)
	p.turn.L.Unlock()
	p.turn.Broadcast()
}

// finish lets nobody wait any more.
func (p *producers) finish() {
	p.turn.L.Lock()
	p.over = true
	p.turn.L.Unlock()
	p.turn.Broadcast()
}

func (p *producers) await(round int64) {
	p.turn.L.Lock()
	defer p.turn.L.Unlock()
	for p.round.Load() < round && !p.over {
		p.turn.Wait()
	}
}

// run returns after every producer has made its transactions.
func (p *producers) run(ctx context.Context, n, transactions int) error {
	group, ctx := errgroup.WithContext(ctx)
	for producer := range n {
		random := rand.New(rand.NewPCG(uint64(producer), 1))
		prepares := producer < 2 // few: the server has room for ten
		group.Go(func() error {
			for i := range transactions {
				if err := p.transaction(ctx, random, fmt.Sprintf("%s_%d_%d", p.name, producer, i), prepares); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (p *producers) transaction(ctx context.Context, random *rand.Rand, name string, prepares bool) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	exec := func(sql string) {
		if err == nil {
			_, err = conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		}
	}
	insert := func(what string) {
		exec(fmt.Sprintf("INSERT INTO postrider.outbox (topic, key, payload) SELECT '%s', n::text, to_jsonb(n) FROM generate_series(1, %d) n",
			what, 1+random.IntN(3)))
	}
	exec("BEGIN")
	insert("good.first")
	if random.IntN(3) == 0 {
		exec("SAVEPOINT s")
		insert("bad.savepoint")
		exec("ROLLBACK TO s")
	}
	if random.IntN(3) == 0 {
		exec("SAVEPOINT t")
		insert("good.savepoint")
		exec("RELEASE t")
	}
	if err == nil && random.IntN(5) == 0 { // a long one
		p.await(p.round.Load() + 1 + random.Int64N(6))
		insert("good.later")
	}
	switch end := random.IntN(6); {
	case end == 0:
		exec("UPDATE pg_temp.nothing SET x = 1") // fails, and the transaction with it
		err = nil
		exec("ROLLBACK")
	case end == 1:
		exec("SAVEPOINT u")
		exec("ROLLBACK")
	case end < 4 && prepares:
		exec("PREPARE TRANSACTION '" + name + "'")
		if err == nil && random.IntN(2) == 0 {
			p.await(p.round.Load() + random.Int64N(3))
		}
		exec("COMMIT PREPARED '" + name + "'")
	default:
		exec("COMMIT")
	}
	if err != nil {
		return fmt.Errorf("producer: %w", err)
	}
	return nil
}
