package store

import (
	"errors"
	"testing"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/relay/internal/relaytest"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
)

// What a replica has shown is void if the cursor was taken over meanwhile, which a replica that stands still does not see.
func TestLostCursorReadsNoReplica(t *testing.T) {
	t.Parallel()
	primary := pgtest.Servers(t, pgtest.Options{})
	b := &bench{relaytest.New(t, primary.New(t)), t}
	standby := pgtest.Standbys(t, primary, pgtest.Options{})
	config, err := dbconn.ParseReplica(standby.URL(b.DB.Name))
	mend(t, err)
	pool, err := dbconn.NewPool(t.Context(), config)
	mend(t, err)
	t.Cleanup(pool.Close)
	b.register()
	b.subscribe("jobs")
	b.Publish("job", "k", `1`, `2`, `3`)
	epoch := scalar[int64](b, "UPDATE postrider.cursors SET owner = $1::text::uuid RETURNING epoch", incarnation)
	var told []error
	p := b.pass(b.OnePool(), snapshot.Snapshot{}, ">")
	p.Name, p.Owned = "jobs", Owned{subscription.Whole("jobs"), incarnation, epoch}
	p.Replica = &Replica{Pool: pool, Tell: func(err error) { told = append(told, err) }}
	first, err := p.page(t.Context(), Page{}, 1)
	if err != nil || len(first.Rows) != 1 || first.Place == "" || len(told) > 0 {
		t.Fatalf("the first page has %d rows, and place %q: %v, %v", len(first.Rows), first.Place, err, told)
	}
	p.Target = &first.Target
	follows := Page{Begun: true, Place: first.Place, Start: first.Reaches()}
	eventually(t, "the replica gives the next page", func() bool {
		second, err := p.page(t.Context(), follows, 1)
		mend(t, err)
		return len(second.Rows) == 1 && second.Rows[0].ID == first.Rows[0].ID+1 && told[len(told)-1] == nil
	})
	mend(t, pool.With(t.Context(), func(c *dbconn.Conn) error {
		_, err := c.Exec(t.Context(), "SELECT pg_wal_replay_pause()")
		return err
	}))
	b.Publish("job", "k", `4`)
	p.Target = nil
	later, err := p.page(t.Context(), Page{}, 2)
	mend(t, err)
	p.Target = &later.Target
	rest, err := p.page(t.Context(), Page{Begun: true, Place: later.Place, Start: later.Reaches()}, 10)
	if err != nil || len(rest.Rows) != 2 || told[len(told)-1] != ErrBehind {
		t.Errorf("a replica that lacks a message is asked for it: %d rows, %v, %v", len(rest.Rows), err, told[len(told)-1])
	}
	p.Target = &first.Target
	b.Exec("UPDATE postrider.cursors SET epoch = epoch + 1")
	before := len(told)
	if _, err := p.page(t.Context(), follows, 1); !errors.Is(err, ErrLost) || len(told) != before+1 || told[before] != nil {
		t.Errorf("who has lost the cursor reads on: %v, %v", err, told[before:])
	}
}
