package torture

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// publication is what is known of ours.
type publication struct {
	faults atomic.Int32 // under way, because of which there may be none
	since  atomic.Int64 // unix nanoseconds of when there was one again
}

// without is called by a fault before there may be none, and what it returns once there is one again.
func (p *publication) without() (again func()) {
	p.faults.Add(1)
	return func() {
		p.since.Store(time.Now().UnixNano())
		p.faults.Add(-1)
	}
}

// publish makes the publication, unless it is there: an answer may have got lost, or the server may be another one.
const publish = `DO $$ BEGIN
	IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'postrider') THEN
		CREATE PUBLICATION postrider FOR TABLE postrider.outbox WITH (publish = 'insert', publish_via_partition_root = true);
	END IF;
END $$`

// dropPublication leaves relays without a stream for a while.
func dropPublication(ctx context.Context, w *world, rng *rand.Rand) error {
	defer w.publication.without()()
	if err := w.db.try(ctx, "DROP PUBLICATION IF EXISTS postrider"); err != nil {
		return err
	}
	pause(ctx, span(rng, 0, 2*time.Second))
	return w.db.try(ctx, publish)
}
