package console

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/admin"
)

// perPage are how many subscriptions a page lists.
const perPage = 50

// overviewData is what templates/overview.html shows.
type overviewData struct {
	Now     time.Time
	Notices []notice
	Others  int // notices that are not shown
	Total   totals
	listing
	Filter string
	Sort   string
}

// totals are of all subscriptions.
type totals struct {
	Subscriptions, Relays                     int
	Lag, Retrying, Held, Scheduled, Out, Dead int64
	LagMore                                   bool
}

// listing is a part of a long list.
type listing struct {
	Rows        []row
	First, Last int // of these rows, from 1
	Of          int
	Page        int
	Previous    int // 0: there is none
	Next        int
}

// row is a subscription in the list.
type row struct {
	*admin.SubscriptionStatus
	condition
	Spark spark
}

// fewest is how many parked messages of a state are counted at least: of fewer there are no more.
const fewest = 20

// More says whether there may be more parked messages than a count says.
func (r row) More(n int64) bool { return r.ParkedMore && n >= fewest }

// Kind is the destination's.
func (r row) Kind() string {
	kind, _, _ := strings.Cut(r.Sink, ":")
	return kind
}

// sorts are the orders of the list, the first of them for none.
var sorts = []string{"attention", "name", "lag", "age", "retrying", "dead"}

func (h *Handler) overview(ctx context.Context, q *request) (*page, error) {
	p := &page{Title: "Overview", Section: "/", Body: "overview", Every: sampleEvery}
	order, err := q.choice("sort", sorts...)
	if err != nil {
		p.Problem = err.Error()
	}
	at, err := q.number("page")
	if err != nil {
		p.Problem = err.Error()
	}
	report, err := h.sampler.look(ctx)
	if err != nil {
		return nil, err
	}
	d := overviewData{Now: report.Now, Notices: noticesOf(report), Filter: q.get("name"), Sort: order, Total: total(report)}
	if n := len(d.Notices); n > mostNotices {
		d.Others, d.Notices = n-mostNotices, d.Notices[:mostNotices]
	}
	rows := rowsOf(report, d.Filter)
	sortRows(rows, order)
	d.listing = cut(rows, int(at))
	for i := range d.Rows {
		d.Rows[i].Spark = newSpark(h.sampler.lagOf(d.Rows[i].Name))
	}
	p.Data = d
	return p, nil
}

// total adds up.
func total(r *admin.StatusReport) (t totals) {
	t.Subscriptions = len(r.Subscriptions)
	for _, one := range r.Relays {
		if one.Lives(r.Now) {
			t.Relays++
		}
	}
	for _, s := range r.Subscriptions {
		t.Lag += s.LagMessages
		t.LagMore = t.LagMore || s.LagMore
		t.Retrying, t.Held, t.Scheduled, t.Out, t.Dead = t.Retrying+s.Retrying, t.Held+s.Held, t.Scheduled+s.Scheduled, t.Out+s.Leased, t.Dead+s.Dead
	}
	return t
}

// rowsOf are the subscriptions whose names have the text in them.
func rowsOf(r *admin.StatusReport, text string) (rows []row) {
	for i := range r.Subscriptions {
		s := &r.Subscriptions[i]
		if strings.Contains(s.Name, strings.ToLower(text)) {
			rows = append(rows, row{SubscriptionStatus: s, condition: conditionOf(s, r.Relays, r.Now)})
		}
	}
	return rows
}

// sortRows sorts what is sorted by name already.
func sortRows(rows []row, order string) {
	by := map[string]func(a, b row) int{
		"name":     func(a, b row) int { return cmp.Compare(a.Name, b.Name) },
		"lag":      func(a, b row) int { return cmp.Compare(b.LagMessages, a.LagMessages) },
		"age":      func(a, b row) int { return cmp.Compare(b.LagSeconds, a.LagSeconds) },
		"retrying": func(a, b row) int { return cmp.Compare(b.Retrying+b.Held, a.Retrying+a.Held) },
		"dead":     func(a, b row) int { return cmp.Compare(b.Dead, a.Dead) },
		"attention": func(a, b row) int {
			return cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(min(b.Dead, 1), min(a.Dead, 1)))
		},
	}
	slices.SortStableFunc(rows, by[order])
}

// cut returns a page of the list; one that is past its end is its last.
func cut(rows []row, page int) (l listing) {
	pages := max(1, (len(rows)+perPage-1)/perPage)
	l.Page, l.Of = min(max(page, 1), pages), len(rows)
	first := (l.Page - 1) * perPage
	l.Rows = rows[first:min(first+perPage, len(rows))]
	l.First, l.Last = first+1, first+len(l.Rows)
	if l.Page > 1 {
		l.Previous = l.Page - 1
	}
	if l.Page < pages {
		l.Next = l.Page + 1
	}
	return l
}
