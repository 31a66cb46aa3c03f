package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/internal/pgtest"
)

// drawStandby gives every other round a standby, if it may have one, and every one that asks for what needs it.
func (c *Config) drawStandby(rng *rand.Rand) {
	drawn := rng.IntN(2) == 0 && c.Faults == nil || slices.Contains(c.Faults, "promote")
	c.Standby = c.Standby || drawn && c.Follow != "pooler"
}

// addStandby starts a standby of the primary, with a network between them that can be cut. From now on connection strings
// name both.
func (d *database) addStandby(ctx context.Context) error {
	link, err := linktest.Start(hostOf(d.primary()))
	if err != nil {
		return err
	}
	d.replication = link
	host, port, err := net.SplitHostPort(link.Addr())
	if err != nil {
		return err
	}
	standby, err := d.primary().Standby(ctx, pgtest.Options{Settings: map[string]string{
		"primary_conninfo":            fmt.Sprintf("host=%s port=%s user=postgres", host, port),
		"wal_retrieve_retry_interval": "100ms", // crashes of the primary are frequent
	}})
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.servers = append(d.servers, standby)
	d.mu.Unlock()
	d.admin.Close()
	return d.connect(ctx)
}

// promote cuts the network between the primary and its standby, kills the primary after a while, and makes the standby the next
// one. What the standby has not received is gone, though the old primary has confirmed it, and relays have seen it.
func (d *database) promote(ctx context.Context, behind time.Duration) error {
	old, standby := d.primary(), d.standby()
	if standby == nil {
		return errors.New("there is no standby")
	}
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := old.AwaitCaughtUp(bounded, standby); err != nil {
		return err
	}
	if err := d.runAway(bounded); err != nil {
		return err
	}
	pause(ctx, behind)
	if err := old.Kill(); err != nil {
		return err
	}
	if err := standby.Promote(bounded); err != nil {
		return err
	}
	d.mu.Lock()
	d.servers, d.dead = []*pgtest.Server{standby, old}, hostOf(old)
	d.mu.Unlock()
	return d.try(ctx, "SELECT")
}

// runAway leaves the standby behind, by some transactions.
func (d *database) runAway(ctx context.Context) error {
	const last = "SELECT coalesce(max(number), 0) FROM torture.tx"
	d.replication.Cut()
	from, err := one[int64](ctx, d, last)
	if err != nil {
		return err
	}
	return poll(ctx, time.Minute, func() error {
		n, err := one[int64](ctx, d, last)
		if err == nil && n < from+10 {
			err = errors.New("applications commit nothing")
		}
		return err
	})
}

// standby returns the server that can replace the primary, or nil.
func (d *database) standby() *pgtest.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.servers) < 2 || d.dead != "" {
		return nil
	}
	return d.servers[1]
}

// replaced returns host:port of the server that its standby has replaced, or nothing.
func (d *database) replaced() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}
