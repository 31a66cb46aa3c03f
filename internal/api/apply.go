package api

import (
	"context"
	"net/http"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/schedule"
	"github.com/postrider/postrider/relay/subscription"
)

// Applied says how what a body names is Applied, as the flags of `subs apply` and `schedules apply` do.
type Applied struct {
	Prune  bool   `query:"prune" doc:"Remove what the body does not name and has the same scope; needs yes."`
	Scope  string `query:"scope" maxLength:"63" doc:"The deployment that the body is of: what it names gets this scope, and prune keeps to it. Default: none."`
	Yes    bool   `query:"yes" doc:"Really remove it."`
	DryRun bool   `query:"dry_run" doc:"Say what would change, and change nothing."`
}

func (a Applied) options() admin.ApplyOptions {
	return admin.ApplyOptions{Prune: a.Prune, Scope: a.Scope, Yes: a.Yes, DryRun: a.DryRun}
}

type namedSubscription struct {
	Name string `json:"name" doc:"The subscription's name." example:"billing"`
	Written
}

type namedSchedule struct {
	Name string `json:"name" doc:"The schedule's name." example:"nightly"`
	WrittenSchedule
}

type changeList struct {
	Changes []admin.Change `json:"changes"`
}

type scheduleChangeList struct {
	Changes []admin.ScheduleChange `json:"changes"`
}

// apply registers what brings many things at once to what a body says.
func (a *API) apply() {
	type subscriptions struct {
		Applied
		Body struct {
			Subscriptions []namedSubscription `json:"subscriptions" maxItems:"10000"`
		}
	}
	register(a, operation{need: access.Admin, method: http.MethodPost, path: "/subscriptions/apply", id: "apply-subscriptions", tag: subscriptionTag, time: changeTime,
		summary: "Create and change many subscriptions in one transaction", description: "As `subs apply` does: what the body does not name is left alone, unless prune removes it. Either all of it is done or nothing."},
		func(ctx context.Context, db *dbconn.Conn, in *subscriptions) (out changeList, err error) {
			specs := make([]subscription.Spec, 0, len(in.Body.Subscriptions))
			for _, s := range in.Body.Subscriptions {
				if s.Sink, err = admin.UnredactedSink(ctx, db, s.Name, s.Sink); err != nil {
					return out, err
				}
				spec, err := s.spec(s.Name)
				if err != nil {
					return out, problem.New(http.StatusBadRequest, "invalid_request", "subscription %q: %s", s.Name, err)
				}
				specs = append(specs, spec)
			}
			if twice, is := repeated(specs, func(s subscription.Spec) string { return s.Name }); is {
				return out, problem.New(http.StatusBadRequest, "invalid_request", "subscription %q: is named twice", twice)
			}
			out.Changes, err = admin.Apply(ctx, db, specs, in.options())
			return out, err
		})
	type schedules struct {
		Applied
		Body struct {
			Schedules []namedSchedule `json:"schedules" maxItems:"10000"`
		}
	}
	register(a, operation{need: access.Admin, method: http.MethodPost, path: "/schedules/apply", id: "apply-schedules", tag: scheduleTag, time: changeTime,
		summary: "Create and change many schedules in one transaction", description: "As `schedules apply` does: what the body does not name is left alone, unless prune removes it. Either all of it is done or nothing."},
		func(ctx context.Context, db *dbconn.Conn, in *schedules) (out scheduleChangeList, err error) {
			specs := make([]schedule.Spec, 0, len(in.Body.Schedules))
			for _, s := range in.Body.Schedules {
				spec, err := s.spec(s.Name)
				if err != nil {
					return out, err
				}
				specs = append(specs, spec)
			}
			if twice, is := repeated(specs, func(s schedule.Spec) string { return s.Name }); is {
				return out, problem.New(http.StatusBadRequest, "invalid_request", "schedule %q: is named twice", twice)
			}
			out.Changes, err = admin.ApplySchedules(ctx, db, specs, in.options())
			return out, err
		})
}

// repeated returns a name that comes twice.
func repeated[T any](list []T, name func(T) string) (string, bool) {
	seen := make(map[string]bool, len(list))
	for _, item := range list {
		if seen[name(item)] {
			return name(item), true
		}
		seen[name(item)] = true
	}
	return "", false
}
