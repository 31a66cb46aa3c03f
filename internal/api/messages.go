package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/outbox/topic"
)

const messageTag = "messages"

func (a *API) messages() {
	type search struct {
		Subscription string    `query:"subscription" doc:"Those that this subscription wants, with where they stand for it."`
		Status       string    `query:"status" doc:"Those that are this for the subscription, such as pending, retrying or dead."`
		Topic        string    `query:"topic" doc:"Those whose topic this pattern matches." example:"orders.>"`
		Key          string    `query:"key" doc:"Those with this key."`
		Since        time.Time `query:"since" doc:"Those created then or later."`
		Until        time.Time `query:"until" doc:"Those created before."`
		Before       int64     `query:"before" doc:"Those with ids below this one: the next of the page before." minimum:"1"`
		Limit        int       `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"Most messages in a page."`
	}
	register(a, operation{need: access.Viewer, method: http.MethodGet, path: "/messages", id: "list-messages", tag: messageTag,
		summary: "Look for messages, the newest first", description: "A page may be short, and even empty, though there is more: next tells. With a status that only parked messages have, they are also found after they have left the log."},
		func(ctx context.Context, db *dbconn.Conn, in *search) (admin.MessageList, error) {
			f := admin.MessageFilter{Subscription: in.Subscription, Status: in.Status, Topic: in.Topic, Limit: in.Limit,
				Key: ifGiven(in.Key), Since: ifGiven(in.Since), Until: ifGiven(in.Until), Before: ifGiven(in.Before)}
			return admin.ListMessages(ctx, db, f)
		})
	a.showMessages()
	type enqueue struct{ Body newMessage }
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/messages", id: "enqueue-message", tag: messageTag,
		summary: "Put a message into the outbox", description: "An application does this in its own transaction. duplicate says that another message has the unique key, and id is that one's."},
		func(ctx context.Context, db *dbconn.Conn, in *enqueue) (enqueued, error) {
			return in.Body.enqueue(ctx, db)
		})
	type cancel struct {
		Body struct {
			Subscription string  `json:"subscription" doc:"For which subscription they are not wanted any more."`
			IDs          []int64 `json:"ids" minItems:"1" maxItems:"1000" doc:"The messages."`
			Reason       string  `json:"reason,omitempty" maxLength:"1000" doc:"Why; shown with them."`
		}
	}
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/messages/cancel", id: "cancel-messages", tag: messageTag, time: changeTime,
		summary: "Cancel messages that are not settled", description: "requested counts those that a relay delivers: they are cancelled at its next save, unless they are delivered before. Many are cancelled by an operation."},
		func(ctx context.Context, db *dbconn.Conn, in *cancel) (out cancelled, err error) {
			if err := named(in.Body.IDs); err != nil {
				return out, err
			}
			n, refused, err := admin.CancelMessages(ctx, db, admin.Cancel{Subscription: in.Body.Subscription, IDs: in.Body.IDs, Reason: in.Body.Reason})
			return cancelled{n.Requested, n.Cancelled, refusals(refused)}, err
		})
}

type cancelled struct {
	Requested int64    `json:"requested"`
	Cancelled int64    `json:"cancelled"`
	Refused   []string `json:"refused"`
}

type enqueued struct {
	ID        int64 `json:"id"`
	Duplicate bool  `json:"duplicate"`
}

// newMessage is a message on its way into the outbox.
type newMessage struct {
	Topic         string            `json:"topic" doc:"Tokens joined by dots." example:"orders.created"`
	Payload       json.RawMessage   `json:"payload,omitempty" doc:"Any JSON. Either this or body_base64."`
	Base64        []byte            `json:"body_base64,omitempty" doc:"Bytes."`
	Key           *string           `json:"key,omitempty" doc:"Messages of one key are delivered in order."`
	Headers       map[string]string `json:"headers,omitempty" doc:"Travel along with it."`
	DeliverAt     *time.Time        `json:"deliver_at,omitempty" doc:"Not before this time."`
	Priority      *int              `json:"priority,omitempty" minimum:"1" maximum:"4" doc:"1 goes first; 2 is the default."`
	UniqueKey     *string           `json:"unique_key,omitempty" doc:"There is to be one message with this key; goes with unique_scope."`
	UniqueScope   *string           `json:"unique_scope,omitempty" doc:"pending:SUBSCRIPTION, or for how long." example:"pending:mail"`
	UniqueReplace bool              `json:"unique_replace,omitempty" doc:"It takes the place of the one that has the key."`
}

func (m *newMessage) enqueue(ctx context.Context, db *dbconn.Conn) (out enqueued, err error) {
	if (m.Payload == nil) == (m.Base64 == nil) {
		return out, problem.New(http.StatusBadRequest, "invalid_request", "payload and body_base64: one of them must be there")
	}
	if err := topic.Validate(m.Topic); err != nil {
		return out, problem.New(http.StatusBadRequest, "invalid_request", "%s", err)
	}
	own := admin.Message{Topic: m.Topic, Payload: m.Payload, Key: m.Key, DeliverAt: m.DeliverAt, Priority: m.Priority,
		UniqueKey: m.UniqueKey, UniqueScope: m.UniqueScope, UniqueReplace: m.UniqueReplace}
	if m.Base64 != nil {
		own.Payload, own.Bytes = m.Base64, true
	}
	if m.Headers != nil {
		text, err := json.Marshal(m.Headers)
		if err != nil {
			return out, err
		}
		own.Headers = new(string(text))
	}
	out.ID, out.Duplicate, err = admin.Enqueue(ctx, db, own)
	return out, err
}

// ifGiven is nil for what was not said.
func ifGiven[T comparable](value T) *T {
	if value == *new(T) {
		return nil
	}
	return &value
}
