package store

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
)

// pass asks for the pages of a pass, as its reader does.
type pass struct {
	*Database
	PageQuery
}

// pass is one from base to the present.
func (b *bench) pass(pool *dbconn.Pool, base snapshot.Snapshot, patterns ...string) *pass {
	m, err := topic.NewMatcher(patterns)
	mend(b.t, err)
	return &pass{&Database{Pool: pool, Source: "source"}, PageQuery{Name: "test", Base: base, Regex: topic.Regex(patterns), Lowest: new(bool), Bytes: 1 << 20,
		Wants: func(r *message.Row) bool { return m.Match(r.Topic) }}}
}

func (p *pass) page(ctx context.Context, next Page, rows int) (Page, error) {
	p.Rows = rows
	return p.ReadPage(ctx, &p.PageQuery, next)
}

// readPass reads all pages of a pass from base to the present.
func readPass(ctx context.Context, p *pass) (to snapshot.Snapshot, start int64, rows []*message.Row, err error) {
	next := Page{}
	for {
		got, err := p.page(ctx, next, 7)
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
		next = Page{Begun: true, Target: got.Target, Start: got.Rows[len(got.Rows)-1].ID}
	}
}

func TestPassesReadEachCommittedRowOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	at := snapshotOf(t, b.DB.Conn(t))
	pool := b.OnePool()
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
		to, start, rows, err := readPass(t.Context(), b.pass(pool, at, ">"))
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
		b.subscribe(name)
	}
	ids := b.Publish("a.b", "", "1", "2", "3", "4", "5", "6", "7", "8", "9")
	b.Exec(`INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload)
		SELECT CASE WHEN id % 2 = 0 THEN 'mine' ELSE 'other' END, id, (ARRAY['retrying', 'dead', 'discarded'])[1 + id % 3], created_at, topic, payload
		FROM postrider.outbox WHERE id <> $1`, ids[4])
	for name, own := range map[string]int64{"mine": 0, "other": 1} {
		r := b.pass(b.OnePool(), snapshot.Snapshot{}, ">")
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
		b.Exec(`INSERT INTO postrider.outbox (topic, payload)
			SELECT CASE WHEN i % $2 = 0 THEN 'a.b' ELSE 'b.b' END, '1' FROM generate_series(1, $1::int) i`, part, every)
	}
	for name, patterns := range map[string][]string{"some": {"a.*"}, "all": {">"}, "none": {"c"}} {
		p := b.pass(b.OnePool(), snapshot.Snapshot{}, patterns...)
		var got []int64
		here, there := 0, 0
		for next := (Page{}); !next.Last; {
			page, err := p.page(t.Context(), next, 256)
			mend(t, err)
			for i, row := range page.Rows {
				if p.Wants(row) {
					got = append(got, row.ID)
				} else if i < len(page.Rows)-1 {
					t.Fatalf("%s: row %d of a page is not wanted, nor the last of the page", name, row.ID)
				}
			}
			if page.Dense {
				here++
			} else {
				there++
			}
			p.Sieve, p.Target = page.Dense, &page.Target
			next = Page{Target: page.Target, Begun: true, Start: page.Reaches(), Last: page.Last}
		}
		want := scalar[[]int64](b, "SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM postrider.outbox WHERE topic ~ $1", p.Regex)
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
	admin := b.DB.Conn(t)
	b.FillSegments(500, 14, 15)
	old, err := b.DB.Pool(t).Begin(t.Context())
	mend(t, err)
	defer old.Rollback(context.WithoutCancel(t.Context()))
	_, err = old.Exec(t.Context(), "INSERT INTO postrider.outbox (segment, topic, payload) VALUES (0, 'a.old', '1')")
	mend(t, err)
	b.FillSegments(500, 0, 1)
	base := snapshotOf(t, admin)
	if _, start := firstPage(t, b, base); start != 0 {
		t.Errorf("start of an empty window: %d", start)
	}
	b.FillSegments(100, 1, 2)
	lowest := scalar[int64](b, "SELECT max(id) - 99 FROM postrider.outbox")
	if rows, start := firstPage(t, b, base); start != lowest-1 || rows[0].ID != lowest {
		t.Errorf("start of a small window: %d, want %d", start, lowest-1)
	}

	b.FillSegments(exactStartRows, 1, 2, 3)
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
	got, err := b.pass(b.OnePool(), base, ">").page(t.Context(), Page{}, 10)
	mend(t, err)
	return got.Rows, got.Start
}

// A page leaves out what is parked: it says nothing if somebody else has parked it.
func TestLostCursorReadsNoPage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.register()
	b.subscribe("jobs")
	b.Publish("job", "k", `1`, `2`)
	epoch := scalar[int64](b, "UPDATE postrider.cursors SET owner = $1::text::uuid RETURNING epoch", incarnation)
	read := func(epoch int64) (Page, error) {
		p := b.pass(b.OnePool(), snapshot.Snapshot{}, ">")
		p.Name, p.Exclude, p.Owned = "jobs", true, Owned{subscription.Whole("jobs"), incarnation, epoch}
		return p.page(t.Context(), Page{}, 10)
	}
	if got, err := read(epoch); err != nil || len(got.Rows) != 2 {
		t.Errorf("the owner reads %d rows, %v", len(got.Rows), err)
	}
	if _, err := read(epoch - 1); !errors.Is(err, ErrLost) {
		t.Errorf("who has another epoch reads on: %v", err)
	}
	b.Exec("TRUNCATE postrider.relays") // as a crash does
	if _, err := read(epoch); !errors.Is(err, ErrLost) {
		t.Errorf("a relay without registration reads on: %v", err)
	}
}
