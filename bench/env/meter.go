package env

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/system"
)

// Costs is what was spent between two moments.
type Costs struct {
	Time                         time.Duration
	Relay, Postgres, Destination system.Usage
	WAL                          int64 // bytes
	Dead                         int64 // dead tuples at most, as the statistics had it each second
}

// Watch says what a Meter looks at.
type Watch struct {
	Relay       int      // process id; 0: there is none, or it comes later, see Follow
	Destination []int    // process ids
	Database    string   // connection string, for dead tuples
	Tables      []string // patterns for LIKE on schema.table; none: dead tuples are not asked for
}

// Meter measures from its start to its end. It looks at memory ten times a second and at dead tuples once.
type Meter struct {
	env    *Env
	watch  Watch
	began  time.Time
	before Costs
	lsn    string
	stop   chan struct{}
	done   sync.WaitGroup

	relay      atomic.Int64 // process id
	helpers    []helper
	peak, dead int64 // of the goroutine, until it has ended
}

// Meter starts to measure.
func (e *Env) Meter(ctx context.Context, w Watch) (*Meter, error) {
	m := &Meter{env: e, watch: w, stop: make(chan struct{})}
	if err := e.Admin.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&m.lsn); err != nil {
		return nil, fmt.Errorf("begin to measure: %w", err)
	}
	m.relay.Store(int64(w.Relay))
	m.before, m.began = m.now(), time.Now()
	m.done.Add(1)
	go m.sample()
	return m, nil
}

// Follow names the relay's process, if it was started after the measurement had begun: all its CPU time counts.
func (m *Meter) Follow(pid int) { m.relay.Store(int64(pid)) }

// Help names processes whose CPU time counts as the destination's. All of it counts of those that were started after the measurement had begun.
func (m *Meter) Help(pids ...int) {
	for _, pid := range pids {
		m.helpers = append(m.helpers, helper{pid, startedCPU(pid, m.began)})
	}
}

// helper is a process and what it had used before the measurement.
type helper struct {
	pid    int
	before time.Duration
}

// startedCPU is what a process has used so far, or nothing if it is younger than the measurement.
func startedCPU(pid int, began time.Time) time.Duration {
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil || info.ModTime().After(began) {
		return 0
	}
	return cpu(pid)
}

// now reads the CPU times.
func (m *Meter) now() (c Costs) {
	if pid := int(m.relay.Load()); pid != 0 {
		c.Relay.CPU = cpu(pid)
	}
	c.Postgres.CPU = cpu(m.env.PG.Pid())
	c.Destination.CPU = cpu(m.watch.Destination...)
	for _, h := range m.helpers {
		c.Destination.CPU += cpu(h.pid) - h.before
	}
	return c
}

// End ends the measurement and returns what was spent.
func (m *Meter) End(ctx context.Context) (Costs, error) {
	after := m.now()
	after.Time = time.Since(m.began)
	close(m.stop)
	m.done.Wait()
	after.Relay.CPU -= m.before.Relay.CPU
	after.Postgres.CPU -= m.before.Postgres.CPU
	after.Destination.CPU -= m.before.Destination.CPU
	after.Relay.Peak, after.Dead = m.peak, m.dead
	const bytes = "SELECT (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::bigint"
	if err := m.env.Admin.QueryRow(ctx, bytes, m.lsn).Scan(&after.WAL); err != nil {
		return after, fmt.Errorf("measure the WAL: %w", err)
	}
	return after, nil
}

// sample looks until it is stopped, and once more then.
func (m *Meter) sample() {
	defer m.done.Done()
	ctx := context.Background()
	var conn *pgx.Conn
	if len(m.watch.Tables) > 0 {
		conn, _ = pgx.Connect(ctx, m.watch.Database) // without it there are no figures
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for i, more := 0, true; more; i++ {
		select {
		case <-m.stop:
			more = false
		case <-ticker.C:
		}
		if pid := int(m.relay.Load()); pid != 0 {
			m.peak = max(m.peak, resident(pid))
		}
		if conn != nil && (i%10 == 0 || !more) {
			m.dead = max(m.dead, deadTuples(ctx, conn, m.watch.Tables))
		}
	}
	if conn != nil {
		_ = conn.Close(ctx)
	}
}

// deadTuples adds up the statistics, to which every backend adds at most once a second.
func deadTuples(ctx context.Context, conn *pgx.Conn, patterns []string) (n int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = conn.QueryRow(ctx, `SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_all_tables
		WHERE schemaname || '.' || relname LIKE ANY ($1)`, patterns).Scan(&n) // one look may fail
	return n
}
