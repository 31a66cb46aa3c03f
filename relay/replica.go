package relay

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/store"
)

// openReplica makes what reads pages from the replica, if there is one. Nothing is connected yet, and nothing waits for it.
func (r *Relay) openReplica(ctx context.Context) (*store.Replica, func(), error) {
	if r.config.ReplicaURL == "" {
		return nil, func() {}, nil
	}
	config, err := dbconn.ParseReplica(r.config.ReplicaURL)
	if err != nil {
		return nil, nil, &fatalError{err}
	}
	r.nameSessions(config.ConnConfig)
	config.MaxConns = passesAtOnce
	pool, err := dbconn.NewPool(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	return &store.Replica{Pool: pool, Tell: r.tellOfReplica()}, pool.Close, nil
}

// tellOfReplica counts pages, and logs when the replica begins to fail, and when it gives pages again.
func (r *Relay) tellOfReplica() func(err error) {
	var failing atomic.Bool
	return func(err error) {
		switch {
		case err == nil:
			r.metrics.Replica.WithLabelValues("read").Inc()
			if failing.CompareAndSwap(true, false) {
				r.log.Info("catching up: the replica is read again")
			}
		case errors.Is(err, store.ErrBehind):
			r.metrics.Replica.WithLabelValues("behind").Inc()
		default:
			r.metrics.Replica.WithLabelValues("failed").Inc()
			if failing.CompareAndSwap(false, true) {
				r.log.Warn("catching up: the replica cannot be read, and the primary is read instead", "because", dberr.Cause(err))
			}
		}
	}
}
