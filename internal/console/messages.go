package console

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
)

// messagesData is what templates/messages.html shows.
type messagesData struct {
	Now      time.Time
	List     admin.MessageList
	Statuses []string
	Names    []string
	Asked    bool // something was asked for
	First    bool // this is the first page
}

// listed are the messages of a page.
const listed = 50

// messages looks for messages. An id alone leads to its message.
func (h *Handler) messages(ctx context.Context, q *request) (*page, error) {
	d := messagesData{Statuses: admin.DeliveryStatuses, First: q.get("before") == ""}
	p := &page{Title: "Messages", Section: "/messages", Body: "messages"}
	d.Asked = slices.ContainsFunc([]string{"topic", "key", "subscription", "status", "since", "until"}, func(name string) bool { return q.get(name) != "" })
	err := h.DB(ctx, func(db *dbconn.Conn) error {
		f, err := messageFilter(ctx, db, q)
		if err != nil {
			return err
		}
		d.List, err = admin.ListMessages(ctx, db, f)
		return err
	})
	if text, is := asked(err); is || admin.CodeOf(err) == admin.NotFound && err != nil {
		p.Problem, err = cmp.Or(text, err.Error()), nil
	}
	if err != nil {
		return nil, err
	}
	d.Now = d.List.Now
	if report := h.sampler.glance(ctx); report != nil { // names are a convenience
		for _, s := range report.Subscriptions[:min(len(report.Subscriptions), 1000)] {
			d.Names = append(d.Names, s.Name)
		}
	}
	if !d.Asked && d.First {
		p.Every = sampleEvery // the newest ones
	}
	p.Data = d
	return p, nil
}

// messageFilter reads what somebody looks for.
func messageFilter(ctx context.Context, db *dbconn.Conn, q *request) (f admin.MessageFilter, err error) {
	f = admin.MessageFilter{Subscription: q.get("subscription"), Status: q.get("status"), Topic: q.get("topic"), Limit: listed}
	if key := q.values.Get("key"); key != "" {
		f.Key = &key
	}
	if text := q.get("before"); text != "" {
		before, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return f, badInput("before %q: must be the id of a message", clip(text, 100))
		}
		f.Before = &before
	}
	if f.Since, err = admin.PastTime(ctx, db, "since", q.get("since")); err != nil {
		return f, err
	}
	f.Until, err = admin.PastTime(ctx, db, "until", q.get("until"))
	return f, err
}

// findMessage leads to the message of an id.
func (h *Handler) findMessage(_ context.Context, q *request) (*page, error) {
	id, err := q.number("id")
	if err == nil && id == 0 {
		err = badInput("id: must be the number of a message")
	}
	return &page{To: fmt.Sprintf("/messages/%d", id)}, err
}
