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

	search <-chan found // nil: it has ended
}

// found is what a search has come to.
type found struct {
	list admin.MessageList
	err  error
}

// soon is how long a page waits for a search before it shows itself without.
const soon = 20 * time.Millisecond

// Searching says whether the search goes on.
func (d *messagesData) Searching() bool { return d.search != nil }

// Finish waits for the search, and returns what went wrong.
func (d *messagesData) Finish() string {
	f := <-d.search
	d.search = nil
	d.take(f)
	if f.err != nil {
		_, what := judge(f.err)
		return what.Text
	}
	return ""
}

func (d *messagesData) take(f found) { d.List, d.Now = f.list, f.list.Now }

// listed are the messages of a page.
const listed = 50

// messages looks for messages. An id alone leads to its message.
func (h *Handler) messages(ctx context.Context, q *request) (*page, error) {
	d := &messagesData{Statuses: admin.DeliveryStatuses, First: q.get("before") == "", Now: time.Now()}
	p := &page{Title: "Messages", Section: "/messages", Body: "messages"}
	d.Asked = slices.ContainsFunc([]string{"topic", "key", "subscription", "status", "since", "until"}, func(name string) bool { return q.get(name) != "" })
	var f admin.MessageFilter
	err := h.DB(ctx, func(db *dbconn.Conn) (err error) {
		if f, err = messageFilter(ctx, db, q); err != nil {
			return err
		}
		return admin.CheckMessages(ctx, db, f)
	})
	if err == nil {
		err = h.find(ctx, q, d, f)
	}
	if text, is := asked(err); is || admin.CodeOf(err) == admin.NotFound && err != nil {
		p.Problem, err = cmp.Or(text, err.Error()), nil
	}
	if err != nil {
		return nil, err
	}
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

// find searches, and leaves a search that takes longer than a moment to the page: it shows what it has before. It ends with ctx.
func (h *Handler) find(ctx context.Context, q *request, d *messagesData, f admin.MessageFilter) error {
	search := make(chan found, 1)
	go func() {
		var found found
		found.err = h.DB(ctx, func(db *dbconn.Conn) (err error) {
			found.list, err = admin.ListMessages(ctx, db, f)
			return err
		})
		search <- found
	}()
	var late <-chan time.Time
	if !q.fragment() {
		late = time.After(soon)
	}
	select {
	case found := <-search:
		d.take(found)
		return found.err
	case <-late:
		d.search = search
		return nil
	}
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
