package torture

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Config says what a run is like. The zero value of a field stands for what the seed picks.
type Config struct {
	// Seed decides everything that is decided by chance. The same seed repeats the faults and their order, not the timing.
	Seed uint64
	// Duration is how long the producers write. Draining and checking come after it.
	Duration time.Duration
	// Faults are the names of those to inject; nil: all that the round's mode allows.
	Faults []string
	// Follow is stream, timer or listen; pooler is timer through PgBouncer in transaction mode.
	Follow string
	// Relays is how many relays run at once: 1 to 3.
	Relays int
	// Standby gives the primary a standby, which the fault promote needs. The seed does, too, now and then.
	Standby bool
	// NATSServers is 1, or 3 for a cluster.
	NATSServers int
	// Destinations are the names of those that not every round has. nil: what the faults need that are named, or else two of them.
	Destinations []string
	// Pause is the time between faults, on average. Default: a second.
	Pause time.Duration
	// Calm stretches the producers' pauses. Default: 1.
	Calm float64
	// Binary is the relay's program. Empty: it is built.
	Binary string
	// Dir is where logs and stores are kept. Empty: a temporary directory, removed unless the run fails.
	Dir string
	// Log receives a line for each fault and stage.
	Log io.Writer
}

// Ways are those in which a relay can learn of new messages.
var Ways = []string{"stream", "listen", "timer", "pooler"}

// Validate says which setting is wrong, with its value and what would be right.
func (c *Config) Validate() error {
	switch {
	case c.Duration < time.Second:
		return fmt.Errorf("duration %v: must be at least 1s", c.Duration)
	case c.Follow != "" && !slices.Contains(Ways, c.Follow):
		return fmt.Errorf("follow %q: must be one of %s", c.Follow, strings.Join(Ways, ", "))
	case c.Relays < 0 || c.Relays > 3:
		return fmt.Errorf("relays %d: must be 1, 2 or 3", c.Relays)
	case c.Standby && c.Follow == "pooler":
		return fmt.Errorf("follow pooler with a standby: the pooler leads to one server; choose another way to follow")
	case c.NATSServers != 0 && c.NATSServers != 1 && c.NATSServers != 3:
		return fmt.Errorf("NATS servers %d: must be 1 or 3", c.NATSServers)
	}
	return c.checkNames()
}

// checkNames says which destination or fault is unknown.
func (c *Config) checkNames() error {
	for _, name := range c.Destinations {
		if !slices.Contains(Destinations(), name) {
			return fmt.Errorf("destination %q: must be one of %s", name, strings.Join(Destinations(), ", "))
		}
	}
	for _, name := range c.Faults {
		if faultNamed(name) == nil {
			return fmt.Errorf("fault %q: must be one of %s", name, strings.Join(FaultNames(), ", "))
		}
	}
	return nil
}
