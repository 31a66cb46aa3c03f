package torture

import (
	"testing"
	"time"
)

// Everything that applications and operators do to relays at work, while these come and go as they should.
func TestApplication(t *testing.T) {
	t.Parallel()
	names := []string{"stop"}
	for _, f := range applicationFaults {
		names = append(names, f.Name)
	}
	round(t, Config{Follow: "timer", Relays: 2, NATSServers: 1, Faults: names, Duration: 9 * time.Second, Pause: 200 * time.Millisecond})
}
