package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/inbox"
	"github.com/postrider/postrider/internal/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		conn, err := pgx.Connect(context.Background(), url)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		return inbox.Install(context.Background(), conn)
	})
	pgtest.Main(m)
}

// message is an id as Postrider makes them.
func message(n int, made time.Time) string { return fmt.Sprintf("5eed0123-%d-%d", n, made.UnixMicro()) }

// accept accepts a message in a transaction of its own.
func accept(t *testing.T, conn *pgx.Conn, id string) (fresh bool) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) (err error) {
		fresh, err = inbox.Accept(t.Context(), tx, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fresh
}

func one[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err == nil {
		var v T
		if v, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[T]); err == nil {
			return v
		}
	}
	t.Fatalf("%s: %v", sql, err)
	panic("not reached")
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func refused(t *testing.T, err error, state string) {
	t.Helper()
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != state {
		t.Errorf("%v, want SQLSTATE %s", err, state)
	}
}

// A message is fresh once. What is rolled back was not accepted.
func TestAccept(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn, id := db.Conn(t), message(42, time.Now())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if fresh, err := inbox.Accept(t.Context(), tx, id); err != nil || !fresh {
		t.Fatalf("fresh: %t, %v", fresh, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false, false} {
		if got := accept(t, conn, id); got != want {
			t.Errorf("fresh: %t, want %t", got, want)
		}
	}
	if accept(t, conn, message(43, time.Now())) != true {
		t.Error("another message is not fresh")
	}

	pool, err := sql.Open("pgx", db.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for _, c := range []struct {
		id   string
		want bool
	}{{id, false}, {message(44, time.Now()), true}} {
		tx, err := pool.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if fresh, err := inbox.AcceptSQL(t.Context(), tx, c.id); err != nil || fresh != c.want {
			t.Errorf("by database/sql: fresh %t, %v, want %t", fresh, err, c.want)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// Many come as they were given, each once.
func TestAcceptMany(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Conn(t)
	now := time.Now()
	a, b, c, old := message(3, now), message(1, now), message(2, now), message(4, now.AddDate(-1, 0, 0))
	accept(t, conn, c)
	for _, round := range []struct{ give, want []string }{
		{nil, nil}, {[]string{a, c, b, a, old}, []string{a, b, old}}, {[]string{old, b, a}, nil},
	} {
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			fresh, err := inbox.AcceptMany(t.Context(), tx, round.give)
			if err == nil && !slices.Equal(fresh, round.want) {
				t.Errorf("of %v are fresh %v, want %v", round.give, fresh, round.want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever comes twice, at once, in batches that overlap, with rollbacks and sessions that are killed: each message has one effect.
func TestOneEffectEach(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, "CREATE TABLE effects (message text, by int)")
	const n, receivers = 300, 6
	now := time.Now()
	ids := make([]string, n)
	for i := range ids { // of all segments, older ones, and some whose clock is ahead
		ids[i] = message(i, now.Add(-time.Duration(i-10)*2*time.Hour))
	}
	admin := db.Pool(t)
	var wg sync.WaitGroup
	for r := range receivers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(r), 7))
			left := slices.Clone(ids)
			random.Shuffle(n, func(i, j int) { left[i], left[j] = left[j], left[i] })
			for len(left) > 0 {
				batch := left[:min(len(left), 1+random.IntN(20))]
				if err := receive(t.Context(), db.URL(), batch, r, random); err == nil {
					left = left[len(batch):]
				} else if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code != "57P01" {
					t.Error(err)
					return
				}
				if random.IntN(10) == 0 {
					_, err := admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'receiver' ORDER BY random() LIMIT 1")
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	conn := db.Conn(t)
	if all, distinct := one[int](t, conn, "SELECT count(*) FROM effects"), one[int](t, conn, "SELECT count(DISTINCT message) FROM effects"); all != n || distinct != n {
		t.Errorf("%d effects of %d messages, want one of each of %d", all, distinct, n)
	}
}

// Those who accept the same messages at once wait for each other in one direction alone, in whatever order they have them.
func TestNoDeadlocks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var conns []*pgx.Conn
	for range 4 {
		conns = append(conns, db.Conn(t))
	}
	for round := range 20 { // in half of them none is late
		var ids []string
		for i := range 100 {
			ids = append(ids, message(100*round+i, time.Now().Add(-time.Duration(i%3*(round%2))*10*24*time.Hour)))
		}
		var wg sync.WaitGroup
		for i, conn := range conns {
			given := slices.Clone(ids)
			if i%2 == 1 {
				slices.Reverse(given)
			}
			wg.Go(func() {
				err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
					_, err := inbox.AcceptMany(t.Context(), tx, given)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

var errRolledBack = errors.New("rolled back")

// receive does what a receiver does, or fails before or after COMMIT.
func receive(ctx context.Context, url string, batch []string, by int, random *rand.Rand) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	config.RuntimeParams["application_name"] = "receiver"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		fresh, err := inbox.AcceptMany(ctx, tx, batch)
		if err != nil {
			return err
		}
		for _, id := range fresh {
			if _, err := tx.Exec(ctx, "INSERT INTO effects VALUES ($1, $2)", id, by); err != nil {
				return err
			}
		}
		if random.IntN(4) == 0 {
			return errRolledBack
		}
		return nil
	})
	if err == nil && random.IntN(4) == 0 {
		return errRolledBack // the answer gets lost
	}
	return err
}

// What is older than the ring is remembered all the same; what is of the future, or tells no time, is refused.
func TestTimes(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Conn(t)
	now := time.Now()
	for _, age := range []time.Duration{0, -20 * time.Hour, 13 * 24 * time.Hour, 16 * 24 * time.Hour, 20 * 365 * 24 * time.Hour} {
		id := message(int(age.Hours()), now.Add(-age))
		if first, second := accept(t, conn, id), accept(t, conn, id); !first || second {
			t.Errorf("%v ago: fresh %t, then %t", age, first, second)
		}
	}
	for _, c := range []struct{ state, sql string }{
		{"22008", "SELECT postrider_inbox.accept('" + message(1, now.AddDate(0, 0, 4)) + "')"},
		{"22023", "SELECT postrider_inbox.accept('order-17')"}, {"22023", "SELECT postrider_inbox.accept('5eed0123-42-99')"},
		{"22023", "SELECT postrider_inbox.accept(NULL)"}, {"22023", "SELECT postrider_inbox.accept('')"},
		{"22023", "SELECT postrider_inbox.accept('order-17', NULL)"}, {"22023", "SELECT postrider_inbox.accept('order-17', '-infinity')"},
		{"22023", "SELECT postrider_inbox.accept('order-17', 'infinity')"}, {"22023", "SELECT postrider_inbox.accept('', now())"},
		{"22008", "SELECT postrider_inbox.accept('order-17', now() + interval '1 year')"},
	} {
		_, err := conn.Exec(t.Context(), c.sql)
		refused(t, err, c.state)
	}
	for _, want := range []bool{true, false} {
		if got := one[bool](t, conn, "SELECT postrider_inbox.accept('order-17', '2020-02-02 00:00+00')"); got != want {
			t.Errorf("another sender's message is fresh: %t, want %t", got, want)
		}
	}
}

// A place of the ring is emptied before it is used again, unless somebody is in the way; late messages are forgotten.
func TestRing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn, other := db.Conn(t), db.Conn(t)
	now := time.Now()
	var ids []string
	for days := range 40 {
		ids = append(ids, message(days, now.Add(-time.Duration(days)*12*time.Hour)))
		accept(t, conn, ids[days])
	}
	count := func() int { return one[int](t, conn, "SELECT count(*) FROM postrider_inbox.accepted") }
	before, late := count(), one[int](t, conn, "SELECT count(*) FROM postrider_inbox.late")
	if before+late != len(ids) || late < 5 || before < 20 {
		t.Fatalf("%d in the ring, %d late", before, late)
	}
	oldest := one[int64](t, conn, "SELECT min(segment) FROM postrider_inbox.accepted")
	held := one[int](t, conn, "SELECT count(*) FROM postrider_inbox.accepted WHERE segment = $1", oldest)
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx.Conn(), fmt.Sprintf("SELECT FROM postrider_inbox.accepted_%d", oldest%16))
	exec(t, conn, "SELECT postrider_inbox.empty_ahead($1)", oldest+14)
	if got := count(); got != before {
		t.Errorf("%d are left of %d: somebody was reading them", got, before)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "SELECT postrider_inbox.empty_ahead($1)", oldest+14)
	if got := count(); got != before-held {
		t.Errorf("%d are left, want %d without the %d of the oldest segment", got, before-held, held)
	}
	exec(t, conn, "UPDATE postrider_inbox.late SET at = at - interval '15 days' WHERE message < $1", ids[35])
	gone := one[int](t, conn, "SELECT count(*) FROM postrider_inbox.late WHERE message < $1", ids[35])
	exec(t, conn, "SELECT postrider_inbox.empty_ahead($1)", oldest+14)
	if got := one[int](t, conn, "SELECT count(*) FROM postrider_inbox.late"); got != late-gone || gone == 0 {
		t.Errorf("%d late ones are left, want %d", got, late-gone)
	}
}

// Accepting empties the ring by itself, now and then.
func TestRingIsEmptiedOnTheWay(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Conn(t)
	current := one[int64](t, conn, "SELECT postrider_inbox.segment_of((extract(epoch FROM now()) * 1000000)::bigint)")
	exec(t, conn, "INSERT INTO postrider_inbox.accepted VALUES ($1, $2, 'of long ago')", (current+2)%16, current-14)
	for n := 0; one[int](t, conn, "SELECT count(*) FROM postrider_inbox.accepted WHERE message = 'of long ago'") > 0; n++ {
		if n == 100 {
			t.Fatal("after 10,000 messages it is not emptied")
		}
		exec(t, conn, "SELECT postrider_inbox.accept_many(ARRAY(SELECT format('5eed0123-%s-%s', i, (extract(epoch FROM now()) * 1000000)::bigint) FROM generate_series($1::int, $1::int + 99) i))", 100*n)
	}
}

// When it changes how long messages are remembered, none is forgotten that was accepted.
func TestKeep(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := db.Conn(t)
	for _, c := range []struct {
		keep  time.Duration
		state string
	}{{time.Minute, "22023"}, {0, "22023"}, {200 * 365 * 24 * time.Hour, "22023"}} {
		_, err := inbox.Keep(t.Context(), conn, c.keep)
		refused(t, err, c.state)
	}
	if from, err := inbox.Keep(t.Context(), conn, 2*time.Hour); err != nil || time.Until(from).Abs() > time.Hour {
		t.Fatalf("an empty one changes at %v, %v", from, err)
	}
	if got := one[time.Duration](t, conn, "SELECT postrider_inbox.keeps()"); got.Round(time.Second) != 2*time.Hour {
		t.Errorf("it keeps for %v", got)
	}
	var ids []string
	now := one[time.Time](t, conn, "SELECT clock_timestamp()")
	length := 2 * time.Hour / 13
	for i := range 400 {
		ids = append(ids, message(i, now.Add(-time.Duration(i-100)*length/100)))
	}
	all := func() (fresh []string) {
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) (err error) {
			fresh, err = inbox.AcceptMany(t.Context(), tx, ids)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return fresh
	}
	if got := all(); len(got) != len(ids) {
		t.Fatalf("%d are fresh, want %d", len(got), len(ids))
	}
	from, err := inbox.Keep(t.Context(), conn, 30*24*time.Hour)
	if err != nil || from.Before(now.Add(length)) || from.After(now.Add(2*length+time.Minute)) {
		t.Fatalf("it changes at %v, %v", from, err)
	}
	if _, err := inbox.Keep(t.Context(), conn, 30*24*time.Hour); err != nil {
		t.Error(err)
	}
	_, err = inbox.Keep(t.Context(), conn, time.Hour)
	refused(t, err, "55000")
	if got := all(); len(got) > 0 {
		t.Errorf("%d are fresh again", len(got))
	}
	// What is made before and after the change has segments of its own.
	made := from.UnixMicro()
	before, after := one[int64](t, conn, "SELECT postrider_inbox.segment_of($1)", made-1), one[int64](t, conn, "SELECT postrider_inbox.segment_of($1)", made)
	if after != before+1 {
		t.Errorf("the segments at the change are %d and %d", before, after)
	}
	if later := one[int64](t, conn, "SELECT postrider_inbox.segment_of($1)", from.Add(2*24*time.Hour).UnixMicro()); later != after {
		t.Errorf("two days later the segment is %d, want %d still", later, after)
	}
}

// A snapshot that may be older than the segments' length is refused.
func TestOldSnapshots(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Conn(t)
	try := func(level pgx.TxIsoLevel) error {
		return pgx.BeginTxFunc(t.Context(), conn, pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
			_, err := inbox.Accept(t.Context(), tx, message(1, time.Now()))
			return err
		})
	}
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	for _, level := range levels {
		if err := try(level); err != nil {
			t.Errorf("%s: %v", level, err)
		}
	}
	old := one[string](t, conn, "SELECT pg_get_functiondef('postrider_inbox.accept_at'::regproc)")
	exec(t, conn, strings.Replace(old, "4 minutes", "0 minutes", 1)) // as if it were as old as that
	for _, level := range levels[1:] {
		refused(t, try(level), "40001")
	}
	if err := try(pgx.ReadCommitted); err != nil {
		t.Error(err)
	}
}

// A role that is granted the inbox can accept messages, and nothing else.
func TestGrants(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "receiver", "")
	ctx := t.Context()
	stranger, err := pgx.Connect(ctx, db.RoleURL(role))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close(ctx)
	_, err = stranger.Exec(ctx, "SELECT postrider_inbox.accept($1)", message(1, time.Now()))
	refused(t, err, "42501")
	db.Exec(t, inbox.Grants(role))
	if !accept(t, stranger, message(1, time.Now())) || !accept(t, stranger, message(2, time.Now().AddDate(-1, 0, 0))) ||
		!one[bool](t, stranger, "SELECT postrider_inbox.accept('x', now())") {
		t.Error("it is not fresh")
	}
	for _, sql := range []string{
		"SELECT * FROM postrider_inbox.accepted", "DELETE FROM postrider_inbox.late", "INSERT INTO postrider_inbox.accepted VALUES (0, 0, 'x')",
		"TRUNCATE postrider_inbox.accepted_0", "SELECT postrider_inbox.keep('1 hour')", "SELECT postrider_inbox.empty_ahead(0)", "UPDATE postrider_inbox.eras SET length = 1",
	} {
		_, err := stranger.Exec(ctx, sql)
		refused(t, err, "42501")
	}
}

// It is installed once, however many do it, and a newer one is left alone.
func TestInstall(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := inbox.Install(t.Context(), db.Conn(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	conn := db.Conn(t)
	if got := one[int](t, conn, "SELECT version FROM postrider_inbox.version"); got != inbox.Version {
		t.Errorf("the version is %d", got)
	}
	exec(t, conn, "UPDATE postrider_inbox.version SET version = 99")
	if err := inbox.Install(t.Context(), conn); err == nil {
		t.Error("a newer one is taken for its own")
	}
	if without := one[int](t, conn, `SELECT count(*) FROM pg_class c WHERE relnamespace = 'postrider_inbox'::regnamespace AND relkind IN ('r', 'p') AND obj_description(oid) IS NULL`); without > 0 {
		t.Errorf("%d tables have no comment", without)
	}
}

// TestUpgrade: an inbox of an earlier version becomes what a new one is; what it remembers, and who may accept, stays.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Conn(t)
	const functions = `SELECT string_agg(pg_get_functiondef(oid) || coalesce(obj_description(oid), '') || coalesce(proacl::text, ''), '' ORDER BY oid::regprocedure::text)
		FROM pg_proc WHERE pronamespace = 'postrider_inbox'::regnamespace`
	id := message(1, time.Now())
	if !accept(t, conn, id) {
		t.Fatal("the first one is not fresh")
	}
	role := "receiver_of_" + one[string](t, conn, "SELECT current_database()::text")
	exec(t, conn, "CREATE ROLE "+pgx.Identifier{role}.Sanitize())
	t.Cleanup(func() {
		if _, err := conn.Exec(context.Background(), "DROP OWNED BY "+pgx.Identifier{role}.Sanitize()+"; DROP ROLE "+pgx.Identifier{role}.Sanitize()); err != nil {
			t.Error(err)
		}
	})
	exec(t, conn, inbox.Grants(role))
	fresh := one[string](t, conn, functions)
	for version := range inbox.Version - 1 {
		exec(t, conn, `CREATE OR REPLACE FUNCTION postrider_inbox.accept_at(message_ids text[], made_at bigint[]) RETURNS SETOF text
			LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN QUERY SELECT unnest(message_ids); END $$`)
		exec(t, conn, "UPDATE postrider_inbox.version SET version = $1", version+1)
		for range 2 {
			if err := inbox.Install(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
		}
		if got := one[string](t, conn, functions); got != fresh {
			t.Errorf("after the upgrade the functions are\n%s\nwant\n%s", got, fresh)
		}
		if got := one[int](t, conn, "SELECT version FROM postrider_inbox.version"); got != inbox.Version {
			t.Errorf("the version is %d", got)
		}
	}
	if accept(t, conn, id) {
		t.Error("what was accepted is fresh again")
	}
}

// TestSegments: each message is in the segment of its time, before and after the length has changed, and while a change lies ahead.
func TestSegments(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Conn(t)
	check := func(when string) {
		t.Helper()
		now := time.Now()
		if !accept(t, conn, message(rand.Int(), now)) {
			t.Errorf("%s it is not fresh", when)
		}
		batch := []string{message(rand.Int(), now), message(rand.Int(), now.Add(-30*time.Minute)), message(rand.Int(), now.Add(-time.Second))} // of several eras, where there are
		for _, want := range []int{len(batch), 0} {
			if n := one[int](t, conn, "SELECT count(*)::int FROM postrider_inbox.accept_many($1)", batch); n != want {
				t.Errorf("%s %d of a batch are fresh, want %d", when, n, want)
			}
		}
		if accept(t, conn, batch[1]) {
			t.Errorf("%s one of a batch is fresh by itself", when)
		}
		if n := one[int](t, conn, `SELECT count(*)::int FROM postrider_inbox.accepted WHERE segment <> postrider_inbox.segment_of(postrider_inbox.made_at(message)) OR place <> segment % 16`); n > 0 {
			t.Errorf("%s %d messages are in another segment than that of their time", when, n)
		}
	}
	exec(t, conn, "SELECT postrider_inbox.keep('1 hour')") // at once: nothing was accepted yet
	check("after a change")
	exec(t, conn, "SELECT postrider_inbox.keep('10 years')")
	check("with a change ahead")
}
