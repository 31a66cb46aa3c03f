package console

import (
	"context"
	"encoding/json"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks/pull"
)

// subscriptionData is what templates/subscription.html shows.
type subscriptionData struct {
	Now      time.Time
	Row      row
	Sub      admin.Subscription
	Parked   []admin.StateCount
	Waiting  []admin.WaitingKey
	Jobs     *pull.LineStatus // of a pull: subscription that this relay delivers
	Settings []setting
	Own      int // how many of them are set
}

// setting is a row of the list of settings.
type setting struct {
	Name, Value, Help string
	Own               bool // not the default
}

// mostWaiting are how many keys that wait are listed.
const mostWaiting = 10

func (h *Handler) subscription(ctx context.Context, q *request) (*page, error) {
	name := q.http.PathValue("name")
	var d subscriptionData
	err := h.DB(ctx, func(db *dbconn.Conn) (err error) {
		if d.Sub, err = admin.ShowSubscription(ctx, db, name); err != nil {
			return err
		}
		if d.Parked, err = admin.CountParked(ctx, db, name); err != nil {
			return err
		}
		d.Waiting, err = admin.WaitingKeys(ctx, db, name, mostWaiting)
		return err
	})
	if err != nil {
		return nil, err
	}
	report, err := h.sampler.look(ctx)
	if err != nil {
		return nil, err
	}
	d.Now, d.Row = report.Now, h.rowOf(report, name)
	if d.Row.SubscriptionStatus == nil { // younger than the sample
		d.Row.SubscriptionStatus = &admin.SubscriptionStatus{Name: name, Sink: d.Sub.Sink, State: d.Sub.State, PausedReason: d.Sub.PausedReason, SavedAt: d.Sub.CreatedAt}
		d.Row.condition = condition{d.Sub.State, good, d.Sub.PausedReason}
	}
	d.Settings, d.Own = settingsOf(d.Sub)
	d.Jobs = h.jobsOf(name)
	return &page{Title: name, Section: "/", Body: "subscription", Every: sampleEvery, Data: d}, nil
}

// rowOf is the subscription of a name, with an empty row if the report has none, or there is no report.
func (h *Handler) rowOf(r *admin.StatusReport, name string) row {
	if r == nil {
		return row{}
	}
	for i := range r.Subscriptions {
		if s := &r.Subscriptions[i]; s.Name == name {
			return row{s, conditionOf(s, r.Relays, r.Now), newSpark(h.sampler.lagOf(name))}
		}
	}
	return row{}
}

// jobsOf is what this relay knows of a subscription's jobs, if it hands them out.
func (h *Handler) jobsOf(name string) *pull.LineStatus {
	if h.Workers == nil {
		return nil
	}
	_, lines := h.Workers()
	for i := range lines {
		if lines[i].Subscription == name {
			return &lines[i]
		}
	}
	return nil
}

// settingsOf lists all settings of a subscription, defaults as well; own is how many are none.
func settingsOf(s admin.Subscription) (list []setting, own int) {
	var set map[string]json.RawMessage
	if json.Unmarshal(s.Settings, &set) != nil {
		return nil, 0 // it is hidden altogether
	}
	filled := subscription.Subscription{Name: s.Name, Sink: s.Sink}
	for name, raw := range set {
		if f := subscription.Find(name); f != nil {
			_ = f.Decode(&filled.Settings, raw) // what cannot be decoded shows as it is
		}
	}
	destination.Defaults(&filled)
	all := filled.Settings.WithDefaults()
	for _, f := range subscription.Fields {
		one := setting{Name: f.Name, Help: f.Help}
		if raw, ok := set[f.Name]; ok {
			one.Own, one.Value = true, plain(raw)
			own++
		} else if raw := f.JSON(&all); raw != nil {
			one.Value = plain(raw)
		}
		list = append(list, one)
	}
	return list, own
}

// plain is a JSON text as it is, but for a string, which stands without quotes.
func plain(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}
