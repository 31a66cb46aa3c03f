package console

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

// deadData is what templates/dead.html shows.
type deadData struct {
	Now      time.Time
	All      []row // subscriptions with dead letters, where none is chosen
	Filter   admin.Filter
	Reasons  []admin.DeadReason
	Letters  []admin.Parked
	Preview  admin.Preview
	Previous bool
	Next     int64 // the id after which the next page begins; 0: there is none
	Names    []string
}

// mostLetters are listed on a page.
const mostLetters = 50

// dead shows dead letters: of all subscriptions how many, of one of them which and why, and what can be done to them.
func (h *Handler) dead(ctx context.Context, q *request) (*page, error) {
	report, err := h.sampler.look(ctx)
	if err != nil {
		return nil, err
	}
	d := deadData{Now: report.Now}
	p := &page{Title: "Dead letters", Section: "/dead", Body: "dead"}
	for i := range report.Subscriptions {
		s := &report.Subscriptions[i]
		d.Names = append(d.Names, s.Name)
		if s.Dead > 0 {
			d.All = append(d.All, row{s, conditionOf(s, report.Relays, report.Now), spark{}})
		}
	}
	sortRows(d.All, "dead")
	d.All = d.All[:min(len(d.All), perPage)]
	after, err := q.number("after")
	if err == nil && q.get("subscription") != "" {
		d.Previous = after > 0
		err = d.read(ctx, h, q.values, after)
	} else {
		p.Every = sampleEvery
	}
	if text, is := asked(err); is {
		p.Problem, err = text, nil
	}
	p.Data = d
	return p, err
}

// read counts, and looks at reasons and letters meanwhile: each takes its time where there are many.
func (d *deadData) read(ctx context.Context, h *Handler, values url.Values, after int64) error {
	err := h.DB(ctx, func(db *dbconn.Conn) (err error) {
		d.Filter, err = filterOf(ctx, db, values)
		return err
	})
	if err != nil {
		return err
	}
	d.Filter.Kind = "redrive" // both that are offered are about the same messages
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return h.DB(ctx, func(db *dbconn.Conn) (err error) {
			d.Preview, err = admin.PreviewOperation(ctx, db, d.Filter)
			return err
		})
	})
	group.Go(func() error {
		return h.DB(ctx, func(db *dbconn.Conn) (err error) {
			if d.Reasons, err = admin.DeadReasons(ctx, db, d.Filter.Subscription, 10); err != nil {
				return err
			}
			var more bool
			if d.Letters, more, err = admin.DeadLetters(ctx, db, d.Filter, after, mostLetters); more {
				d.Next = d.Letters[len(d.Letters)-1].ID
			}
			return err
		})
	})
	return group.Wait()
}

// filterOf reads which messages somebody asks for.
func filterOf(ctx context.Context, db *dbconn.Conn, values url.Values) (f admin.Filter, err error) {
	text := func(name string) *string {
		if v := values.Get(name); v != "" {
			return &v
		}
		return nil
	}
	f = admin.Filter{Kind: values.Get("kind"), Subscription: values.Get("subscription"), Topic: text("topic"), Key: text("key"), Failure: text("failure")}
	if f.Since, err = admin.PastTime(ctx, db, "since", values.Get("since")); err != nil {
		return f, err
	}
	if f.Until, err = admin.PastTime(ctx, db, "until", values.Get("until")); err != nil {
		return f, err
	}
	f.Everything = f.Topic == nil && f.Key == nil && f.Failure == nil && f.Since == nil && f.Until == nil
	return f, nil
}

// startOperation begins what the page of dead letters has shown the extent of.
func (h *Handler) startOperation(ctx context.Context, q *request) (*done, error) {
	var o admin.Operation
	err := h.DB(ctx, func(db *dbconn.Conn) error {
		f, err := filterOf(ctx, db, q.http.PostForm)
		if err != nil {
			return err
		}
		o, err = admin.StartOperation(ctx, db, f, "")
		return err
	})
	return &done{to: fmt.Sprintf("/operations/%d", o.ID), say: fmt.Sprintf("Operation %d begins: %s of %s.", o.ID, o.Kind, human.Plural(o.Expected, "message"))}, err
}
