package api

import (
	"context"
	"net/http"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/dbconn"
)

const operationTag = "operations"

type operationList struct {
	Operations []admin.Operation `json:"operations"`
}

// Which says which messages an operation is about.
type Which struct {
	Kind         string     `json:"kind" enum:"redrive,discard,cancel" doc:"redrive and discard are about dead letters, cancel about all that is not settled."`
	Subscription string     `json:"subscription" doc:"Whose deliveries."`
	Topic        *string    `json:"topic,omitempty" doc:"Those whose topic this pattern matches."`
	Key          *string    `json:"key,omitempty" doc:"Those with this key."`
	Failure      *string    `json:"failure,omitempty" doc:"Those whose last error contains this, in upper or lower case; * stands for anything."`
	Since        *time.Time `json:"since,omitempty" doc:"Those created then or later."`
	Until        *time.Time `json:"until,omitempty" doc:"Those created before."`
	Everything   bool       `json:"everything,omitempty" doc:"All of them: needed where nothing else is said."`
}

func (w *Which) filter() admin.Filter {
	return admin.Filter{Kind: w.Kind, Subscription: w.Subscription, Topic: w.Topic, Key: w.Key, Failure: w.Failure, Since: w.Since, Until: w.Until, Everything: w.Everything}
}

type numbered struct {
	ID int64 `path:"id" doc:"The operation's number." example:"7"`
}

func (a *API) operations() {
	type list struct {
		Limit int `query:"limit" default:"50" minimum:"1" maximum:"1000" doc:"Most operations, the newest first."`
	}
	register(a, operation{need: access.Viewer, method: http.MethodGet, path: "/operations", id: "list-operations", tag: operationTag,
		summary: "What is to be done, or was done in the last week, to many messages", description: "The newest first."},
		func(ctx context.Context, db *dbconn.Conn, in *list) (out operationList, err error) {
			out.Operations, err = admin.Operations(ctx, db, in.Limit)
			return out, err
		})
	register(a, operation{need: access.Viewer, method: http.MethodGet, path: "/operations/{id}", id: "get-operation", tag: operationTag,
		summary: "One operation, and how far it is", description: "It ends as done, cancelled or failed."},
		func(ctx context.Context, db *dbconn.Conn, in *numbered) (admin.Operation, error) {
			return admin.ShowOperation(ctx, db, in.ID)
		})
	type preview struct{ Body Which }
	register(a, operation{need: access.Viewer, method: http.MethodPost, path: "/operations/preview", id: "preview-operation", tag: operationTag,
		summary: "Count the messages that an operation would be about", description: "It changes nothing. The count is bounded: more says that there are more."},
		func(ctx context.Context, db *dbconn.Conn, in *preview) (admin.Preview, error) {
			return admin.PreviewOperation(ctx, db, in.Body.filter())
		})
	type start struct {
		Body struct {
			Which
			Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Of cancel: shown with the messages."`
		}
	}
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/operations", id: "start-operation", tag: operationTag, time: changeTime,
		summary: "Redrive, discard or cancel messages by topic, key, error and time", description: "Relays work it off in chunks, beside the deliveries. It concerns what there is now: what dies or comes later is left alone."},
		func(ctx context.Context, db *dbconn.Conn, in *start) (admin.Operation, error) {
			return admin.StartOperation(ctx, db, in.Body.filter(), in.Body.Reason)
		})
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/operations/{id}/cancel", id: "cancel-operation", tag: operationTag, time: changeTime,
		summary: "End an operation", description: "What it has done stays so."},
		func(ctx context.Context, db *dbconn.Conn, in *numbered) (admin.Operation, error) {
			return admin.CancelOperation(ctx, db, in.ID)
		})
}
