package migrations

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/pgtest"
)

// shardOf is the rule of postrider.shard_of, for messages with a key.
func shardOf(key string, shards int) int {
	sum := sha256.Sum256([]byte(key))
	return 1 + int(sum[0])%shards
}

// site is producers and workers that come to grief in every way.
type site struct {
	t    *testing.T
	db   *pgtest.DB
	stop atomic.Bool
	away func() bool // the server may be down, or just come back
	all  sync.WaitGroup
	// classes says that each priority of a key has an order of its own.
	classes bool

	mu      sync.Mutex
	unknown int // transactions of which nobody knows whether they have been committed
	taken   int
	broken  int // transactions that were ended in some way, with what they had taken
}

const workSite = `
CREATE TABLE public.effects (n bigserial PRIMARY KEY, id bigint NOT NULL, key text, worker int NOT NULL);
CREATE TABLE public.failures (id bigint PRIMARY KEY, n int NOT NULL);
`

// TestWorkersUnderFire: each message has one effect, and those of a key in their order, whatever becomes of workers.
func TestWorkersUnderFire(t *testing.T) {
	t.Parallel()
	s := &site{t: t, db: pgtest.New(t), away: func() bool { return false }}
	s.run(4, 4*time.Second, nil)
}

// TestWorkersWithPrioritiesUnderFire: the same, with an order for each priority of a key. They get their priorities in the middle of it.
func TestWorkersWithPrioritiesUnderFire(t *testing.T) {
	t.Parallel()
	s := &site{t: t, db: pgtest.New(t), away: func() bool { return false }, classes: true}
	s.run(3, 4*time.Second, func() {
		const sql = `UPDATE postrider.subscriptions SET settings = settings || '{"priorities": true}', version = version + 1`
		for { // sessions are ended all the time
			conn := s.db.Conn(t)
			_, err := conn.Exec(t.Context(), sql)
			if err == nil || !s.expected(err) {
				if err != nil {
					t.Error(err)
				}
				return
			}
		}
	})
}

// TestWorkersAndCrashes: the same, while the server crashes.
func TestWorkersAndCrashes(t *testing.T) {
	t.Parallel()
	server := pgtest.Servers(t, pgtest.Options{})
	db := server.NewDB(t)
	if _, err := Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, db: db, away: func() bool { return true }}
	s.run(3, 4*time.Second, func() {
		if err := errors.Join(server.Kill(), server.Restart(t.Context(), "fast")); err != nil {
			t.Error(err)
		}
	})
}

func (s *site) run(shards int, length time.Duration, halfway func()) {
	conn := s.db.Conn(s.t)
	exec(s.t, conn, workSite)
	exec(s.t, conn, `SELECT postrider.set_segment_length('1 second')`)
	work(s.t, conn, "w", fmt.Sprintf(`{"shards": %d, "max_attempts": 1000, "backoff_initial": "5ms", "backoff_max": "20ms"}`, shards))
	for i := range 3 {
		s.all.Go(func() { s.produce(i) })
	}
	s.all.Go(s.produceSlowly)
	for i := range shards + 2 {
		s.all.Go(func() { s.toil(i) })
	}
	s.all.Go(s.shoot)
	s.all.Go(s.closeSegments)
	half := time.After(length / 2)
	end := time.After(length)
	<-half
	if halfway != nil {
		halfway()
	}
	<-end
	s.stop.Store(true)
	s.all.Wait()
	s.judge()
}

// connected lets somebody work on connections of his own until the end. What a connection dies of is part of the test.
func (s *site) connected(do func(ctx context.Context, conn *pgx.Conn) error) {
	for !s.stop.Load() {
		ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
		conn, err := pgx.Connect(ctx, s.db.URL())
		if err == nil {
			for err == nil && !s.stop.Load() {
				err = do(ctx, conn)
			}
			_ = conn.Close(ctx) // it may be dead
		}
		cancel()
		if err != nil && !s.expected(err) {
			s.t.Errorf("%v", err)
			return
		}
	}
}

// expected tells whether an error is one of those that the test causes.
func (s *site) expected(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code == "57P01" || s.away() && pgErr.Code[:2] == "57"
	}
	return true // a connection that broke
}

// insertSomewhere inserts into one of the newest segments, so that all of them are filled all the time.
const insertSomewhere = `INSERT INTO postrider.outbox (topic, key, payload, priority, segment)
	VALUES ('a.x', CASE WHEN random() < 0.8 THEN $1 || '-' || (random() * 3)::int END, '1', 1 + (random() * 3)::int, ((postrider.current_segment() - (random() * 3)::int) & 15)::smallint)`

// produce commits message after message of its own keys: their order is that of their ids.
func (s *site) produce(i int) {
	s.connected(func(ctx context.Context, conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for range 1 + rand.IntN(4) {
			if _, err := tx.Exec(ctx, insertSomewhere, fmt.Sprint("p", i)); err != nil {
				return err
			}
		}
		if rand.IntN(10) == 0 {
			return tx.Rollback(ctx)
		}
		return tx.Commit(ctx)
	})
}

// produceSlowly holds transactions open, so that what commits late has small ids.
func (s *site) produceSlowly() {
	s.connected(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `BEGIN; SELECT postrider.enqueue('a.slow', '1'); SELECT pg_sleep(random() * 0.3);
			SELECT postrider.enqueue('a.slow', '1', 'slow'); COMMIT`)
		return err
	})
}

// toil works on batches; some of them end badly.
func (s *site) toil(worker int) {
	s.connected(func(ctx context.Context, conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		if rand.IntN(8) == 0 { // a child of work, before it is known which
			if _, err := tx.Exec(ctx, `SELECT postrider.enqueue('a.child', '1')`); err != nil {
				return err
			}
		}
		jobs, err := s.take(ctx, tx)
		if err != nil {
			return err
		}
		skip := map[int64]bool{}
		for _, j := range jobs {
			if skip[j.ID] {
				continue
			}
			if rand.IntN(25) == 0 {
				behind, err := refuse(ctx, tx, j)
				if err != nil {
					return err
				}
				for _, id := range behind {
					skip[id] = true
				}
				continue
			}
			if _, err := tx.Exec(ctx, `INSERT INTO public.effects (id, key, worker) VALUES ($1, nullif($2, ''), $3)`, j.ID, j.Key, worker); err != nil {
				return err
			}
		}
		return s.end(ctx, tx, len(jobs))
	})
}

// refuse says in some way that a job cannot be done now, and returns those that wait for it.
func refuse(ctx context.Context, tx pgx.Tx, j job) (behind []int64, err error) {
	sql := []string{`SELECT postrider.retry('w', $1, 'no luck')`, `SELECT postrider.snooze('w', $1, '10 ms')`, `SELECT postrider.give_back('w', $1)`}[rand.IntN(3)]
	return behind, tx.QueryRow(ctx, sql, j.ID).Scan(&behind)
}

func (s *site) take(ctx context.Context, tx pgx.Tx) ([]job, error) {
	rows, err := tx.Query(ctx, `SELECT id, coalesce(key, ''), attempt FROM postrider.take('w', $1)`, 1+rand.IntN(30))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[job])
}

func (s *site) end(ctx context.Context, tx pgx.Tx, n int) error {
	if n > 0 && rand.IntN(6) == 0 {
		s.count(&s.broken, 1)
		return tx.Rollback(ctx)
	}
	if err := tx.Commit(ctx); err != nil {
		s.count(&s.unknown, 1)
		return err
	}
	s.count(&s.taken, n)
	return nil
}

func (s *site) count(what *int, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what += n
}

// shoot ends workers' and producers' sessions at random.
func (s *site) shoot() {
	s.connected(func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, `SELECT pg_sleep(0.05)`); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND random() < 0.2 ORDER BY random() LIMIT 1`)
		if err == nil {
			s.count(&s.broken, 1)
		}
		return err
	})
}

// closeSegments closes one segment after the other, whatever is in it: relays that stand still, or stop half-way, leave behind what was right once.
func (s *site) closeSegments() {
	s.connected(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT pg_sleep(0.02), postrider.close_segment(((postrider.current_segment() - (random() * 3)::int) & 15)::smallint, random() < 0.8)`)
		return err
	})
}

// judge takes what is left, and looks at what all has come to.
func (s *site) judge() {
	conn := s.db.Conn(s.t)
	deadline := time.Now().Add(time.Minute)
	for one[int](s.t, conn, `SELECT count(*) FROM postrider.outbox o WHERE NOT EXISTS (SELECT FROM public.effects e WHERE e.id = o.id)`) > 0 {
		tx := begin(s.t, conn)
		for _, j := range takeJobs(s.t, tx, "w", 100) {
			exec(s.t, tx, `INSERT INTO public.effects (id, key, worker) VALUES ($1, nullif($2, ''), -1)`, j.ID, j.Key)
		}
		commit(s.t, tx)
		if time.Now().After(deadline) {
			s.t.Fatalf("messages are lost: %v", one[[]int64](s.t, conn, `SELECT array_agg(o.id) FROM postrider.outbox o WHERE NOT EXISTS (SELECT FROM public.effects e WHERE e.id = o.id)`))
		}
	}
	wantIDs(s.t, "when all is done", drainShards(s.t, conn, "w"))
	line := "e.key"
	if s.classes {
		line = "e.key, o.priority"
	}
	for what, sql := range map[string]string{
		"messages with two effects": `SELECT coalesce(array_agg(id), '{}') FROM (SELECT id FROM public.effects GROUP BY id HAVING count(*) > 1) q`,
		"effects of what never was": `SELECT coalesce(array_agg(id), '{}') FROM public.effects e WHERE NOT EXISTS (SELECT FROM postrider.outbox o WHERE o.id = e.id)`,
		"effects out of a key's order": `SELECT coalesce(array_agg(id), '{}') FROM (SELECT e.id, lag(e.id) OVER (PARTITION BY ` + line + ` ORDER BY n) AS before
			FROM public.effects e JOIN postrider.outbox o USING (id) WHERE e.key IS NOT NULL) q WHERE before > id`,
	} {
		if list := one[[]int64](s.t, conn, sql); len(list) > 0 {
			s.t.Errorf("%s: %v", what, list)
		}
	}
	n := one[int](s.t, conn, `SELECT count(*) FROM public.effects`)
	s.t.Logf("%d messages, %d by workers, %d transactions broken, %d of unknown end", n, s.taken, s.broken, s.unknown)
	if n < 200 || s.taken < 100 || s.broken < 5 {
		s.t.Error("too little has happened for this test to mean anything")
	}
}
