package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/postrider"
)

// relays returns Postrider in those of its ways that are to be measured (all, if none is named), with other subscriptions.
func (b *Bench) relays(subscriptions func(to system.Destination) []postrider.Subscription, follows ...string) (list []system.System) {
	for _, s := range b.Own {
		p, ok := s.(*postrider.Postrider)
		if !ok || len(follows) > 0 && !slices.Contains(follows, p.Follow) {
			continue
		}
		other := *p
		other.Subscriptions = subscriptions
		list = append(list, &other)
	}
	return list
}

// bare returns what of our own is no relay: the bare pipe.
func (b *Bench) bare(kind Kind) (list []system.System) {
	for _, s := range b.Own {
		if _, ours := s.(*postrider.Postrider); !ours && s.Supports(b.Destination(kind)) {
			list = append(list, s)
		}
	}
	return list
}

// kindFor is where a system delivers to, if it is to have a stream or else a receiver of webhooks.
func (b *Bench) kindFor(s system.System) Kind {
	if s.Supports(b.Destination(NATS)) {
		return NATS
	}
	return Webhook
}

// shorter leaves Postrider on the stream, the bare pipe, and the first configuration of each peer.
func (b *Bench) shorter(systems []system.System) (list []system.System) {
	seen := map[string]bool{}
	for _, s := range systems {
		if p, ok := s.(*postrider.Postrider); ok && p.Follow != "stream" {
			continue
		}
		kind := fmt.Sprintf("%T", s)
		if b.Peer(s) && seen[kind] {
			continue
		}
		seen[kind] = true
		list = append(list, s)
	}
	return list
}

// least leaves Postrider on the stream and the first peer.
func (b *Bench) least(systems []system.System) (list []system.System) {
	peer := false
	for _, s := range b.shorter(systems) {
		_, ours := s.(*postrider.Postrider)
		if ours || b.Peer(s) && !peer {
			list, peer = append(list, s), peer || b.Peer(s)
		}
	}
	return list
}

// connect opens a connection to the stage's database, for whoever closes it.
func (st *Stage) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, st.Database)
	if err != nil {
		return nil, fmt.Errorf("connect to the stage's database: %w", err)
	}
	return conn, nil
}

// held is a transaction that is held open.
type held struct{ conn *pgx.Conn }

// hold begins a transaction that has an id and a snapshot, and leaves it open.
func (st *Stage) hold(ctx context.Context) (*held, error) {
	conn, err := st.connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT pg_current_xact_id()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, errors.Join(fmt.Errorf("hold a transaction open: %w", err), conn.Close(ctx))
		}
	}
	return &held{conn}, nil
}

// close ends it.
func (h *held) close(ctx context.Context) error {
	_, err := h.conn.Exec(ctx, "COMMIT")
	return errors.Join(err, h.conn.Close(ctx))
}

// megabytes is for tables.
func megabytes(n int64) float64 { return float64(n) / (1 << 20) }
