package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/inbox"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/internal/pgtest"
)

// copied is the subscription whose messages become rows of another database: one each, whatever happens.
const copied = "copied"

// warehouse is that database, and the network before it.
type warehouse struct {
	server *pgtest.Server
	link   *linktest.Link
	admin  *pgxpool.Pool
}

const warehouseSchema = `
CREATE TABLE public.copies (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_id text NOT NULL, topic text, key text, payload jsonb, body bytea, headers jsonb,
	created_at timestamptz, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE ROLE receiver LOGIN;
GRANT INSERT ON public.copies TO receiver;
`

// hasCopies reports whether there is a fault for that database.
func (c *Config) hasCopies() bool {
	return slices.ContainsFunc(c.chosen(), func(f *Fault) bool { return f.Hits == onWarehouse })
}

// startWarehouse starts it, if it is to be there.
func (w *world) startWarehouse(ctx context.Context) (err error) {
	if !w.hasCopies() {
		return nil
	}
	h := &w.warehouse
	if h.server, err = pgtest.Start(ctx, pgtest.Options{WALLevel: "replica"}); err != nil {
		return err
	}
	w.undo = append(w.undo, h.server.Stop)
	if h.link, err = linktest.Start(hostOf(h.server)); err != nil {
		return err
	}
	w.undo = append(w.undo, func() error { h.link.Stop(); return nil })
	if h.admin, err = pgxpool.New(ctx, h.server.URL("postgres")); err != nil {
		return err
	}
	w.undo = append(w.undo, func() error { h.admin.Close(); return nil })
	if err := inbox.Install(ctx, h.admin); err != nil {
		return err
	}
	_, err = h.admin.Exec(ctx, warehouseSchema+inbox.Grants("receiver"))
	return err
}

// url is where the subscription delivers to.
func (h *warehouse) url() string {
	return fmt.Sprintf("postgres://receiver@%s/postgres?table=public.copies", h.link.Addr())
}

// catchUpCopies makes the book of what is in the table. Rows of a key have numbers in the order in which they were inserted: one was committed
// before the next was sent.
func (w *world) catchUpCopies(ctx context.Context) error {
	type row struct {
		Wire    string
		Payload []byte
		At      time.Time
	}
	var list []row
	err := poll(ctx, time.Minute, func() error {
		rows, err := w.warehouse.admin.Query(ctx, "SELECT message_id, payload::text::bytea, at FROM public.copies ORDER BY n")
		if err == nil {
			list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[row])
		}
		return err
	})
	if err != nil {
		return err
	}
	b := newBook()
	for _, r := range list {
		b.enter(r.Payload, r.Wire, r.At, "the table of copies")
	}
	own := w.bookOf(copied)
	own.mu.Lock()
	defer own.mu.Unlock()
	own.arrivals, own.accepted, own.strange = b.arrivals, b.accepted, b.strange
	return nil
}

// warehouseFaults excuse no repeat: the inbox is there for that.
var warehouseFaults = []*Fault{
	{Name: "inbox-crash", About: "the database of the inbox is restarted in immediate mode", Hits: onWarehouse,
		Inject: func(ctx context.Context, w *world, _ *rand.Rand) error {
			return w.warehouse.server.Restart(ctx, "immediate")
		}},
	{Name: "inbox-kill", About: "SIGKILL to all processes of the inbox's database, then it is started again", Hits: onWarehouse,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			if err := w.warehouse.server.Kill(); err != nil {
				return err
			}
			pause(ctx, span(rng, 0, time.Second))
			return w.warehouse.server.Restart(context.WithoutCancel(ctx), "immediate")
		}},
	{Name: "inbox-killed", About: "the sessions that deliver to the inbox are ended, again and again", Hits: onWarehouse,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			for range 1 + rng.IntN(5) {
				if _, err := w.warehouse.admin.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'receiver'"); err != nil {
					return err
				}
				pause(ctx, span(rng, 0, 300*time.Millisecond))
			}
			return nil
		}},
	{Name: "inbox-deaf", About: "what the inbox says does not arrive: COMMITs without an answer", Hits: onWarehouse,
		Inject: whileHalfOpen(linktest.ToClient, linkOfInbox)},
	{Name: "inbox-silent", About: "connections to the inbox stay, and nothing arrives there", Hits: onWarehouse, Inject: whileHalfOpen(linktest.ToServer, linkOfInbox)},
	{Name: "inbox-cut", About: "the network before the inbox is cut", Hits: onWarehouse,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) error {
			w.warehouse.link.Cut()
			pause(ctx, span(rng, 100*time.Millisecond, 3*time.Second))
			return w.warehouse.link.Heal()
		}},
	{Name: "inbox-locked", About: "somebody locks the table into which the inbox's messages go", Hits: onWarehouse,
		Inject: func(ctx context.Context, w *world, rng *rand.Rand) (err error) {
			tx, err := w.warehouse.admin.Begin(ctx)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx))) }()
			if _, err := tx.Exec(ctx, "LOCK TABLE public.copies IN SHARE MODE"); err != nil {
				return err
			}
			pause(ctx, span(rng, 500*time.Millisecond, 3*time.Second))
			return nil
		}},
}

// whileHalfOpen lets bytes pass in one direction alone for a while, and then none: what has been on its way is lost.
func whileHalfOpen(blocked linktest.Direction, of func(*world) *linktest.Link) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, rng *rand.Rand) error {
		link := of(w)
		link.HalfOpen(blocked)
		pause(ctx, span(rng, 300*time.Millisecond, 4*time.Second))
		link.Cut()
		return link.Heal()
	}
}

func linkOfInbox(w *world) *linktest.Link { return w.warehouse.link }

// copies is the subscription.
func copies(topics []string) *subscription {
	return &subscription{Expectation: Expectation{Name: copied, Once: true, Late: requestLasts + saveReach}, topics: topics, sink: "postgres:",
		settings: strings.Replace(patient, `"max_attempts"`, `"timeout": "2s", "max_attempts"`, 1)}
}
