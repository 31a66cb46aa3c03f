package console

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

// relaysData is what templates/relays.html shows.
type relaysData struct {
	Now       time.Time
	Relays    []relayRow
	Ring      []segmentRow
	Bytes     int64
	Each      time.Duration // how long a segment is filled
	Retention time.Duration
}

// relayRow is a relay with what is said of it.
type relayRow struct {
	admin.RelayStatus
	condition
	Title   string
	Cannot  []string // what it leaves to others, and why
	SeenNow string
}

// segmentRow is a segment with what is said of it.
type segmentRow struct {
	admin.Segment
	condition
}

func (h *Handler) relays(ctx context.Context, q *request) (*page, error) {
	d := relaysData{Retention: h.Retention}
	var ring admin.Ring
	err := h.DB(ctx, func(db *dbconn.Conn) (err error) {
		ring, err = admin.ReadRing(ctx, db, h.Retention)
		return err
	})
	if err != nil {
		return nil, err
	}
	report, err := h.sampler.look(ctx)
	if err != nil {
		return nil, err
	}
	d.Now, d.Each = report.Now, time.Duration(ring.Seconds)*time.Second
	title := admin.Titles(report.Relays)
	for _, r := range report.Relays {
		d.Relays = append(d.Relays, relayRow{r, relayCondition(r, report.Now), title[r.Incarnation], cannot(r), r.Seen(report.Now)})
	}
	for _, s := range ring.Segments {
		d.Ring = append(d.Ring, segmentRow{s, segmentCondition(s)})
		d.Bytes += s.Bytes
	}
	return &page{Title: "Relays", Section: "/relays", Body: "relays", Every: 5 * time.Second, Data: d}, nil
}

func relayCondition(r admin.RelayStatus, now time.Time) condition {
	switch {
	case r.Silent(now):
		return condition{"silent", bad, "it was killed, or hangs, or has lost the database: others take over what it delivered"}
	case len(r.Unable) > 0:
		return condition{"alive", odd, fmt.Sprintf("it cannot deliver %s", human.Plural(int64(len(r.Unable)), "subscription"))}
	case !r.Lives(now):
		return condition{"gone", odd, "it ended a moment after its start"}
	}
	return condition{"alive", good, ""}
}

// cannot lists what a relay leaves to others, the first of many.
func cannot(r admin.RelayStatus) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(r.Unable)) {
		list = append(list, name+": "+r.Unable[name].Reason)
	}
	return list[:min(len(list), 10)]
}

// segmentCondition says whether a segment can be emptied, and if not why.
func segmentCondition(s admin.Segment) condition {
	who := strings.Join(s.NeededBy, ", ")
	if more := s.Needed - int64(len(s.NeededBy)); more > 0 {
		who += fmt.Sprintf(" and %d more", more)
	}
	switch {
	case s.Current:
		return condition{"is filled now", good, ""}
	case s.Oldest == nil && s.Next:
		return condition{"empty, is next", quiet, ""}
	case s.Oldest == nil:
		return condition{"empty", quiet, ""}
	case s.Old && s.Needed > 0:
		return condition{"cannot be emptied", bad, "not settled yet by " + who}
	case s.Old && len(s.Holders) > 0:
		return condition{"cannot be emptied", bad, "used by " + strings.Join(s.Holders, ", ")}
	case s.Old:
		return condition{"is emptied soon", good, ""}
	case s.Needed > 0:
		return condition{"is kept", good, "not settled yet by " + who}
	}
	return condition{"is kept", good, "for the retention"}
}

// Share is a segment's part of the largest one, in percent.
func (d relaysData) Share(s segmentRow) int64 {
	most := int64(1)
	for _, other := range d.Ring {
		most = max(most, other.Bytes)
	}
	return cmp.Or(100*s.Bytes/most, min(s.Bytes, 1))
}
