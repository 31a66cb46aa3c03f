package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

// drawStandby gives every other round a standby, if it may have one, and every one that asks for what needs it.
func (c *Config) drawStandby(rng *rand.Rand) {
	drawn := rng.IntN(2) == 0 && c.Faults == nil || slices.Contains(c.Faults, "promote")
	c.Standby = c.Standby || drawn && c.Source != "pooler"
}

// addStandby starts a standby of the primary. From now on connection strings name both.
func (d *database) addStandby(ctx context.Context) error {
	standby, err := d.primary().Standby(ctx, pgtest.Options{Settings: map[string]string{
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

// promote kills the primary and makes its standby the next one. What the standby has not received is gone, however
// often the old primary has confirmed it.
func (d *database) promote(ctx context.Context) error {
	old, standby := d.primary(), d.standby()
	if standby == nil {
		return fmt.Errorf("there is no standby")
	}
	catchUp, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := old.AwaitCaughtUp(catchUp, standby); err != nil {
		return err
	}
	if err := old.Kill(); err != nil {
		return err
	}
	if err := standby.Promote(catchUp); err != nil {
		return err
	}
	d.mu.Lock()
	d.servers, d.dead = []*pgtest.Server{standby, old}, hostOf(old)
	d.mu.Unlock()
	return d.try(ctx, "SELECT")
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
