package console

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/states"
)

// mostShown are the bytes of a message that its page shows.
const mostShown = 64 << 10

// messageData is what templates/message.html shows.
type messageData struct {
	Now        time.Time
	Content    admin.MessageText
	Text       string // what it carries, made readable
	Headers    []header
	Hidden     bool // from who looks
	Deliveries []deliveryRow
}

type header struct{ Name, Value string }

// deliveryRow is where a message stands for one subscription.
type deliveryRow struct {
	admin.Delivery
	condition
	Redrive, Discard, Cancel bool // what can be asked for
}

func (h *Handler) message(ctx context.Context, q *request) (*page, error) {
	id, err := pathNumber(q, "message")
	if err != nil {
		return nil, err
	}
	d := messageData{Now: time.Now()}
	var m admin.Deliveries
	err = h.DB(ctx, func(db *dbconn.Conn) (err error) {
		if d.Content, err = admin.ReadMessage(ctx, db, id, mostShown); err != nil {
			return err
		}
		m, err = admin.ShowDeliveries(ctx, db, id, "")
		if admin.CodeOf(err) == admin.NotFound && err != nil {
			return nil // nobody wants it: the page says so
		}
		if err == nil {
			err = m.TellFiltered(ctx, db, d.Content.Whole())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	report := h.sampler.glance(ctx)
	if !m.Now.IsZero() {
		d.Now = m.Now
	}
	for _, one := range m.List {
		d.Deliveries = append(d.Deliveries, deliveryOf(one, h.rowOf(report, one.Subscription)))
	}
	if d.Hidden = h.HidePayloads && !q.MayChange(); d.Hidden {
		for i := range d.Deliveries {
			d.Deliveries[i].Result = nil
		}
	} else {
		d.Text, d.Headers = readable(d.Content), headersOf(d.Content.Headers)
	}
	return &page{Title: fmt.Sprintf("Message %d", id), Section: "/messages", Body: "message", Every: sampleEvery,
		Events: fmt.Sprintf("/api/v1/events?id=%d", id), Data: d}, nil
}

// deliveryOf says how a delivery is, and for one that waits why.
func deliveryOf(d admin.Delivery, of row) deliveryRow {
	r := deliveryRow{Delivery: d, condition: condition{Word: d.Status, Level: statusLevel(d.Status)}}
	if d.Status == "pending" && of.SubscriptionStatus != nil && of.Level != good {
		r.Level, r.Why = of.Level, fmt.Sprintf("%s is %s: %s", d.Subscription, of.Word, of.condition.Why)
	}
	names := func(is func(states.State) bool) bool { return slices.Contains(states.Names(is), d.Status) }
	r.Redrive = names(func(s states.State) bool { return s.Redrive })
	r.Discard = names(func(s states.State) bool { return s.Discard })
	r.Cancel = d.Status == "pending" || names(func(s states.State) bool { return !s.Over && !s.CalledBack() })
	return r
}

// readable makes a payload or body fit to be read.
func readable(c admin.MessageText) string {
	if c.Payload != nil {
		var b bytes.Buffer
		if !c.Cut && json.Indent(&b, []byte(*c.Payload), "", "  ") == nil {
			return b.String()
		}
		return *c.Payload
	}
	if utf8.Valid(c.Body) && !strings.ContainsFunc(string(c.Body), func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' }) {
		return string(c.Body)
	}
	return hex.Dump(c.Body[:min(len(c.Body), 4<<10)])
}

func headersOf(raw json.RawMessage) (list []header) {
	var all map[string]string
	if json.Unmarshal(raw, &all) != nil {
		return nil // the outbox refuses what is no object of texts
	}
	for name, value := range all {
		list = append(list, header{name, value})
	}
	slices.SortFunc(list, func(a, b header) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// change is something that is done to one message of one subscription.
func (h *Handler) change(what string, do func(ctx context.Context, db *dbconn.Conn, name string, ids []int64) (n int64, refused, err error)) func(context.Context, *request) (*done, error) {
	return func(ctx context.Context, q *request) (*done, error) {
		id, err := pathNumber(q, "message")
		if err != nil {
			return nil, err
		}
		var n int64
		var refused error
		err = h.DB(ctx, func(db *dbconn.Conn) (err error) {
			n, refused, err = do(ctx, db, q.form("subscription"), []int64{id})
			return err
		})
		d := &done{to: fmt.Sprintf("/messages/%d", id)}
		if refused != nil {
			d.wrong = refused.Error()
		}
		if n > 0 {
			d.say = fmt.Sprintf("Message %d is %s for %s.", id, what, q.form("subscription"))
		}
		return d, err
	}
}

// cancelMessage asks for a message not to be delivered.
func cancelMessage(ctx context.Context, db *dbconn.Conn, name string, ids []int64) (n int64, refused, err error) {
	c, refused, err := admin.CancelMessages(ctx, db, admin.Cancel{Subscription: name, IDs: ids})
	return c.Requested + c.Cancelled, refused, err
}
