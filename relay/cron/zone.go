package cron

import (
	"fmt"
	"strings"
	"time"
)

// Zone returns a zone of the tz database by its name; none is UTC. The data is the system's, or else what the program brings along.
func Zone(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	// Local is the zone of whoever runs this, and right/ counts leap seconds, which clocks do not.
	if name != "Local" && !strings.HasPrefix(name, "right/") {
		if zone, err := time.LoadLocation(name); err == nil {
			return zone, nil
		}
	}
	return nil, fmt.Errorf("zone %q is not known: must be a name of the tz database, such as Europe/Berlin, America/New_York or UTC", name)
}
