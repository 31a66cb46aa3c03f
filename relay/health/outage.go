package health

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/dberr"
)

// outage is the time in which the database cannot be used at all. Who looks at the database all the time anyway, once a second, finds
// its beginning and its end: one line for each, with the cause and how long it took, and one if the cause turns out to be another.
type outage struct {
	since time.Time // zero: there is none
	cause string
	kind  string
}

func (o *outage) ongoing() bool { return !o.since.IsZero() }

func (o *outage) err(now time.Time) error {
	return fmt.Errorf("the database cannot be used for %s: %s", now.Sub(o.since).Round(time.Second), o.cause)
}

// Away takes note that the database cannot be used.
func (h *Health) Away(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := &h.outage
	o.cause = dberr.Cause(err)
	kind := dberr.Kind(err)
	switch {
	case !o.ongoing():
		o.since = time.Now()
		h.log.Warn("the database cannot be used; waiting for it", "because", o.cause)
	case kind != o.kind:
		h.log.Warn("the database still cannot be used", "because", o.cause)
	default:
		h.log.Debug("the database still cannot be used", "because", o.cause)
	}
	o.kind = kind
}

// Back takes note that the database can be used.
func (h *Health) Back() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outage.ongoing() {
		h.log.Info("the database is back", "after", time.Since(h.outage.since).Round(time.Millisecond))
		h.outage = outage{}
	}
}
