package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

var transactionFaults = []*Fault{
	{Name: "old", About: "a transaction stays open, with messages at its start and at its end", Hits: onApplication, Inject: writeOld},
}

// writeOld keeps a transaction open while other faults come and go.
func writeOld(ctx context.Context, w *world, rng *rand.Rand) error {
	p := &producer{producers: w.apps, name: fmt.Sprintf("old%d", rng.Uint32()), rng: rng}
	began := time.Now()
	conn, err := connect(ctx, p.url())
	if err != nil {
		p.fail(err)
		return nil
	}
	defer closeConn(conn)
	p.failSince(began, p.transact(ctx, conn, func(t *tx) error {
		some := func() error {
			return t.insert(ctx, Message{Topic: p.topic(), Key: p.key(0), Order: p.next()}, Message{Topic: p.topic()})
		}
		if err := some(); err != nil {
			return err
		}
		pause(ctx, 2*w.Pause+span(rng, 0, 4*time.Second))
		return some()
	}))
	return nil
}
