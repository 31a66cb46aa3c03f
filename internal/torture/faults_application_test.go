package torture

import (
	"slices"
	"testing"
	"time"
)

// Everything that applications and operators do to relays, schedules, and many messages at work, while relays come and go as they should.
func TestApplication(t *testing.T) {
	t.Parallel()
	names := []string{"stop"}
	for _, f := range slices.Concat(applicationFaults, scheduleFaults, operationFaults) {
		names = append(names, f.Name)
	}
	round(t, Config{Follow: "timer", Relays: 2, NATSServers: 1, Faults: names, Duration: 9 * time.Second, Pause: 200 * time.Millisecond})
}
