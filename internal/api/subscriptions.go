package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
)

const subscriptionTag = "subscriptions"

type subscriptionList struct {
	Subscriptions []admin.Subscription `json:"subscriptions"`
}

// Named names a subscription.
type Named struct {
	Name string `path:"name" doc:"The subscription's name." example:"billing"`
}

// withReason is a body that may say why.
type withReason struct {
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why; shown in status. Without one, the last one stays." example:"the endpoint is being moved"`
}

func (w *withReason) reason() string {
	if w == nil {
		return ""
	}
	return w.Reason
}

// Written is a subscription as it is to be.
type Written struct {
	Topics   []string        `json:"topics" minItems:"1" doc:"Patterns as in NATS: orders.created, orders.*, orders.>"`
	Sink     string          `json:"sink" doc:"A URL, whose scheme chooses the kind of destination." example:"https://billing.internal/hook"`
	Start    string          `json:"start,omitempty" doc:"Where it begins when it is created: earliest, now (the default) or a time." example:"now"`
	Settings json.RawMessage `json:"settings,omitempty" doc:"An object with the settings of a subscription, as in files. What is not said has its default."`
}

func (a *API) subscriptions() {
	register(a, operation{need: access.Viewer, method: http.MethodGet, path: "/subscriptions", id: "list-subscriptions", tag: subscriptionTag,
		summary: "All subscriptions with their settings", description: "Secrets do not show."},
		func(ctx context.Context, db *dbconn.Conn, _ *struct{}) (out subscriptionList, err error) {
			out.Subscriptions, err = admin.Subscriptions(ctx, db)
			return out, err
		})
	register(a, operation{need: access.Viewer, method: http.MethodGet, path: "/subscriptions/{name}", id: "get-subscription", tag: subscriptionTag,
		summary: "One subscription with its settings", description: "Secrets do not show."},
		func(ctx context.Context, db *dbconn.Conn, in *Named) (admin.Subscription, error) {
			return admin.ShowSubscription(ctx, db, in.Name)
		})
	type put struct {
		Named
		DryRun bool `query:"dry_run" doc:"Say what would change, and change nothing."`
		Body   Written
	}
	register(a, operation{need: access.Admin, method: http.MethodPut, path: "/subscriptions/{name}", id: "put-subscription", tag: subscriptionTag, time: changeTime,
		summary: "Create a subscription, or change it in place", description: "Its cursor, its state and what it has parked stay. The answer says what has changed, field by field. A sink that is sent as an answer showed it, with xxxxx in place of a secret, stays as it is."},
		func(ctx context.Context, db *dbconn.Conn, in *put) (admin.Change, error) {
			var err error
			if in.Body.Sink, err = admin.UnredactedSink(ctx, db, in.Name, in.Body.Sink); err != nil {
				return admin.Change{}, err
			}
			spec, err := in.Body.spec(in.Name)
			if err != nil {
				return admin.Change{}, problem.New(http.StatusBadRequest, "invalid_request", "%s", err)
			}
			changes, err := admin.Apply(ctx, db, []subscription.Spec{spec}, admin.ApplyOptions{DryRun: in.DryRun})
			if err != nil {
				return admin.Change{}, err
			}
			return changes[0], nil
		})
	register(a, operation{need: access.Admin, method: http.MethodDelete, path: "/subscriptions/{name}", id: "remove-subscription", tag: subscriptionTag, time: changeTime,
		summary: "Remove a subscription with its cursor and all that it has parked", description: "Its messages stay in the log for the retention."},
		func(ctx context.Context, db *dbconn.Conn, in *Named) (done, error) {
			return done{true}, admin.Remove(ctx, db, in.Name)
		})
	a.steering()
}

// done is the answer of what cannot half happen.
type done struct {
	Done bool `json:"done"`
}

func (a *API) steering() {
	type pause struct {
		Named
		Body *withReason
	}
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/subscriptions/{name}/pause", id: "pause-subscription", tag: subscriptionTag,
		summary: "Stop the deliveries of a subscription", description: "What is under way ends; messages wait in the log."},
		func(ctx context.Context, db *dbconn.Conn, in *pause) (done, error) {
			return done{true}, admin.Pause(ctx, db, in.Name, in.Body.reason())
		})
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/subscriptions/{name}/resume", id: "resume-subscription", tag: subscriptionTag,
		summary: "Let the deliveries of a subscription go on", description: "They go on where they stopped."},
		func(ctx context.Context, db *dbconn.Conn, in *Named) (done, error) {
			return done{true}, admin.Resume(ctx, db, in.Name)
		})
	type replay struct {
		Named
		Body struct {
			From string `json:"from" doc:"earliest, now, a time, or how long ago." example:"2h"`
		}
	}
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/subscriptions/{name}/replay", id: "replay-subscription", tag: subscriptionTag, time: changeTime,
		summary: "Deliver again what was created since then, or pass over it", description: "note says what the destination does with messages that it has got before."},
		func(ctx context.Context, db *dbconn.Conn, in *replay) (admin.Replayed, error) {
			return admin.Replay(ctx, db, in.Name, in.Body.From)
		})
}

// spec checks what is written, as a file's would be.
func (w *Written) spec(name string) (s subscription.Spec, err error) {
	s.Name, s.Topics, s.Sink, s.Start = name, w.Topics, w.Sink, w.Start
	if s.Start == "" {
		s.Start = "now"
	}
	if len(w.Settings) > 0 {
		if s.Settings, err = subscription.DecodeSettings(w.Settings); err != nil {
			return s, err
		}
	}
	for _, check := range []func() error{
		func() error { return subscription.CheckName(name) },
		func() error { return subscription.CheckTopics(w.Topics) },
		func() error { return subscription.CheckStart(s.Start) },
		s.Settings.Validate,
		func() error { return destination.CheckElsewhere(s.Subscription) },
	} {
		if err := check(); err != nil {
			return s, err
		}
	}
	return s, nil
}
