package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

func snapshotOf(t *testing.T, conn *pgx.Conn) snapshot.Snapshot {
	t.Helper()
	var text string
	mend(t, conn.QueryRow(t.Context(), "SELECT pg_current_snapshot()::text").Scan(&text))
	s, err := snapshot.Parse(text)
	mend(t, err)
	return s
}

// filterOf is the filter of a subscription to topics, which are valid.
func filterOf(patterns ...string) *delivery.Filter {
	m, err := topic.NewMatcher(patterns)
	if err != nil {
		panic(err)
	}
	return &delivery.Filter{Regex: topic.Regex(patterns), Current: m}
}

// passReader is a reader whose pages are the test's to ask for.
func (b *bench) passReader(pool *dbconn.Pool, base snapshot.Snapshot) *delivery.PassReader {
	return &delivery.PassReader{Passes: &delivery.Passes{DB: store.Database{Pool: pool, Source: "source"}, Reading: semaphore.NewWeighted(passesAtOnce), Limit: 1 << 20},
		Name: "test", Filter: filterOf(">"), Base: base}
}

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
	return &producers{pool: b.app, name: b.db.Name, turn: sync.NewCond(&sync.Mutex{})}
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

// ledger collects what a chain of windows read.
type ledger struct {
	t    *testing.T
	seen map[int64]int
}

// window takes one window's rows in, which must lie between its snapshots.
func (l *ledger) window(from, to snapshot.Snapshot, rows []*message.Row) {
	l.t.Helper()
	for _, r := range rows {
		l.seen[r.ID]++
		if from.Sees(r.XID) || !to.Sees(r.XID) {
			l.t.Errorf("row %d of transaction %d is not in the window from %s to %s", r.ID, r.XID, from, to)
		}
		if r.Topic[0] != 'g' {
			l.t.Errorf("row %d with topic %s was rolled back, but read", r.ID, r.Topic)
		}
	}
	if !to.Covers(from) {
		l.t.Errorf("snapshot %s does not cover the earlier %s", to, from)
	}
	if !slices.IsSortedFunc(rows, func(a, b *message.Row) int { return int(a.ID - b.ID) }) {
		l.t.Errorf("rows of the window from %s to %s are not in order", from, to)
	}
}

// settle compares what was read with what is there.
func (l *ledger) settle(b *bench, where string) {
	l.t.Helper()
	rows, err := b.admin.Query(l.t.Context(), "SELECT id FROM postrider.outbox WHERE "+where)
	mend(l.t, err)
	committed, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	mend(l.t, err)
	if len(committed) == 0 || len(l.seen) != len(committed) {
		l.t.Errorf("%d rows read, %d committed", len(l.seen), len(committed))
	}
	for _, id := range committed {
		if n := l.seen[id]; n != 1 {
			l.t.Errorf("row %d was read %d times", id, n)
		}
	}
}

// readWindow is what the feed's reading tick and its audit do, in one look.
func readWindow(ctx context.Context, o *store.OutboxReader, from snapshot.Snapshot) (to snapshot.Snapshot, rows []*message.Row, counted map[uint64]int, err error) {
	var t store.Tick
	counted = make(map[uint64]int)
	err = o.Session.Run(ctx, store.BeginRead, store.ByIndex, store.TickCall(o.Incarnation, &t),
		store.Call{Statement: store.WindowStatement.Whole, Args: store.WindowArgs(from), Binary: true, Row: store.ToRow(o.Decoder, func(r *message.Row) error {
			rows = append(rows, r)
			return nil
		})},
		store.Call{Statement: store.CountStatement, Args: store.WindowArgs(from), Binary: true, Row: func(values [][]byte) error {
			counted[binary.BigEndian.Uint64(values[0])] = int(binary.BigEndian.Uint64(values[1]))
			return nil
		}}, store.Commit)
	return t.Snapshot, rows, counted, err
}

func TestWindowsReadEachCommittedRowOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	o, at := b.outboxReader(), snapshotOf(t, b.db.Conn(t))
	p, ledger := newProducers(b), &ledger{t, make(map[int64]int)}
	done := make(chan error, 1)
	go func() { done <- p.run(t.Context(), 8, 40) }()

	windows, overtaken := 0, 0
	for last := false; !last; windows++ {
		select {
		case err := <-done:
			mend(t, err)
			last = true
		default:
		}
		to, rows, counted, err := readWindow(t.Context(), o, at)
		if err != nil {
			p.finish()
			t.Fatal(err)
		}
		ledger.window(at, to, rows)
		for _, r := range rows {
			if counted[r.XID]--; counted[r.XID] == 0 {
				delete(counted, r.XID)
			}
			if r.XID < at.Xmax {
				overtaken++ // from the branch of transactions that were running
			}
		}
		if len(counted) > 0 {
			t.Errorf("the window from %s to %s was counted otherwise than it was read: %v", at, to, counted)
		}
		at = to
		p.next()
	}
	ledger.settle(b, "true")
	if windows < 20 || overtaken < 10 {
		t.Errorf("only %d windows, %d rows of transactions that older snapshots had listed: the test shows little", windows, overtaken)
	}
	t.Logf("%d rows in %d windows, %d of them of older transactions", len(ledger.seen), windows, overtaken)
}

// readPass reads all pages of a pass from base to the present.
func readPass(ctx context.Context, p *delivery.PassReader) (to snapshot.Snapshot, start int64, rows []*message.Row, err error) {
	next := store.Page{}
	for {
		got, err := p.ReadPage(ctx, next, 7)
		if err != nil {
			return to, start, rows, err
		}
		if p.Target == nil {
			p.Target = &got.Target
			start = got.Start
		}
		rows = append(rows, got.Rows...)
		if got.Last {
			return got.Target, start, rows, nil
		}
		next = store.Page{Begun: true, Target: got.Target, Start: got.Rows[len(got.Rows)-1].ID}
	}
}

func TestPassesReadEachCommittedRowOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	at := snapshotOf(t, b.db.Conn(t))
	pool := b.onePool()
	p, ledger := newProducers(b), &ledger{t, make(map[int64]int)}
	done := make(chan error, 1)
	go func() { done <- p.run(t.Context(), 8, 40) }()

	passes := 0
	for last := false; !last; passes++ {
		select {
		case err := <-done:
			mend(t, err)
			last = true
		default:
		}
		to, start, rows, err := readPass(t.Context(), b.passReader(pool, at))
		if err != nil {
			p.finish()
			t.Fatal(err)
		}
		ledger.window(at, to, rows)
		if len(rows) > 0 && start != rows[0].ID-1 {
			// Rows that became visible after the target was taken may have lower ids.
			if start >= rows[0].ID {
				t.Errorf("the pass starts after %d, past its row %d", start, rows[0].ID)
			}
		}
		at = to
		p.next()
	}
	ledger.settle(b, "true")
	if passes < 10 {
		t.Errorf("only %d passes", passes)
	}
	t.Logf("%d rows in %d passes", len(ledger.seen), passes)
}

// Rows that one subscription has parked are left out of its pages, and out of nobody else's.
func TestPassLeavesOutWhatIsParked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []string{"mine", "other"} {
		b.subscribe(name, "{>}", "{}", "earliest")
	}
	ids := b.publish("a.b", "", "1", "2", "3", "4", "5", "6", "7", "8", "9")
	b.exec(`INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload)
		SELECT CASE WHEN id % 2 = 0 THEN 'mine' ELSE 'other' END, id, (ARRAY['retrying', 'dead', 'discarded'])[1 + id % 3], created_at, topic, payload
		FROM postrider.outbox WHERE id <> $1`, ids[4])
	for name, own := range map[string]int64{"mine": 0, "other": 1} {
		r := b.passReader(b.onePool(), snapshot.Snapshot{})
		r.Name, r.Exclude = name, true
		_, _, rows, err := readPass(t.Context(), r)
		mend(t, err)
		var want, got []int64
		for _, id := range ids {
			if id%2 != own || id == ids[4] {
				want = append(want, id)
			}
		}
		for _, r := range rows {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %s hold %v, want %v", name, got, want)
		}
	}
}

// Topics are tested by the database while few are wanted and here while many are; the pages hold what is wanted either way.
func TestPassTestsTopicsWhereThatIsCheaper(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const part = 3000
	for _, every := range []int{1, 10, 1} { // so many rows for one that is wanted
		b.exec(`INSERT INTO postrider.outbox (topic, payload)
			SELECT CASE WHEN i % $2 = 0 THEN 'a.b' ELSE 'b.b' END, '1' FROM generate_series(1, $1::int) i`, part, every)
	}
	for name, patterns := range map[string][]string{"some": {"a.*"}, "all": {">"}, "none": {"c"}} {
		r := b.passReader(b.onePool(), snapshot.Snapshot{})
		r.Filter = filterOf(patterns...)
		r.Name, r.Wake = name, func() {}
		r.Start(t.Context())
		var got []int64
		here, there := 0, 0
		for last := false; !last; {
			p := <-r.Pages
			last = p.Last
			for i, row := range p.Rows {
				if r.Filter.Wants(row) {
					got = append(got, row.ID)
				} else if i < len(p.Rows)-1 {
					t.Fatalf("%s: row %d of a page is not wanted, nor the last of the page", name, row.ID)
				}
			}
			if p.Dense {
				here++
			} else {
				there++
			}
		}
		r.Stop()
		want := scalar[[]int64](b, "SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM postrider.outbox WHERE topic ~ $1", r.Filter.Regex)
		if !slices.Equal(got, want) {
			t.Errorf("%s: pages hold %d rows, want %d", name, len(got), len(want))
		}
		if name == "some" && (here < 2 || there < 1) || name == "all" && there > 0 || name == "none" && here > 0 {
			t.Errorf("%s: many were wanted in %d pages, few in %d", name, here, there)
		}
	}
}

// The start of a pass is the first id of a small window, and lies in the first segment of a large one; never past an unsettled row.
func TestPassStartsBeforeWhatIsUnsettled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	admin := b.db.Conn(t)
	b.fillSegments(500, 14, 15)
	old, err := b.db.Pool(t).Begin(t.Context())
	mend(t, err)
	defer old.Rollback(context.WithoutCancel(t.Context()))
	_, err = old.Exec(t.Context(), "INSERT INTO postrider.outbox (segment, topic, payload) VALUES (0, 'a.old', '1')")
	mend(t, err)
	b.fillSegments(500, 0, 1)
	base := snapshotOf(t, admin)
	if _, start := firstPage(t, b, base); start != 0 {
		t.Errorf("start of an empty window: %d", start)
	}
	b.fillSegments(100, 1, 2)
	lowest := scalar[int64](b, "SELECT max(id) - 99 FROM postrider.outbox")
	if rows, start := firstPage(t, b, base); start != lowest-1 || rows[0].ID != lowest {
		t.Errorf("start of a small window: %d, want %d", start, lowest-1)
	}

	b.fillSegments(store.ExactStartRows, 1, 2, 3)
	inSegment1 := scalar[int64](b, "SELECT min(id) FROM postrider.outbox WHERE segment = 1")
	if rows, start := firstPage(t, b, base); start != inSegment1-1 || rows[0].ID != lowest {
		t.Errorf("start of a large window: %d, want %d, the first of its first segment; first row %d, want %d", start, inSegment1-1, rows[0].ID, lowest)
	}

	mend(t, old.Commit(t.Context()))
	oldest := scalar[int64](b, "SELECT id FROM postrider.outbox WHERE topic = 'a.old'")
	if rows, start := firstPage(t, b, base); start != oldest-1 || rows[0].ID != oldest {
		t.Errorf("start of a large window with an old transaction: %d, want %d; first row %d", start, oldest-1, rows[0].ID)
	}
}

func firstPage(t *testing.T, b *bench, base snapshot.Snapshot) (rows []*message.Row, start int64) {
	t.Helper()
	got, err := b.passReader(b.onePool(), base).ReadPage(t.Context(), store.Page{}, 10)
	mend(t, err)
	return got.Rows, got.Start
}
