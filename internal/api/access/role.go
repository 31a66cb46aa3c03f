package access

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/api/problem"
)

// Role is what somebody may do.
type Role int

// The roles. Viewer, Operator and Admin may do all that the one before may.
const (
	Nobody   Role = iota
	Worker        // take jobs, and say what came of them
	Viewer        // look at everything
	Operator      // pause, replay, redrive, cancel, enqueue: what can be done about messages
	Admin         // change and remove subscriptions and schedules, and take jobs
)

var roleNames = []string{Nobody: "nobody", Worker: "worker", Viewer: "viewer", Operator: "operator", Admin: "admin"}

// String is the role's name.
func (r Role) String() string { return roleNames[r] }

func parseRole(name string) (Role, error) {
	if i := slices.Index(roleNames, name); i > 0 {
		return Role(i), nil
	}
	return Nobody, fmt.Errorf("role %.30q: must be one of %s", name, strings.Join(roleNames[1:], ", "))
}

// Identity is who calls.
type Identity struct {
	Name string
	Role Role
	// Subscriptions are those that a worker may take jobs of; nil: all.
	Subscriptions []string
	// Local says that there are no tokens, and whoever is on this machine is trusted.
	Local bool
}

// Refusal is what somebody is told who may not do what a role is needed for.
func (i Identity) Refusal(need Role) error {
	if i.Role == Nobody {
		return unauthorized("a token is needed: send it as Authorization: Bearer TOKEN")
	}
	right := "operator or admin"
	switch need {
	case Worker:
		right = "worker or admin"
	case Viewer:
		right = "viewer, operator or admin"
	case Admin:
		right = "admin"
	}
	return problem.New(http.StatusForbidden, "forbidden", "the token %s has the role %s: this needs %s", i.Name, i.Role, right)
}

// WrongSubscription is what a worker is told that may not take jobs of a subscription.
func (i Identity) WrongSubscription(name string) error {
	return problem.New(http.StatusForbidden, "forbidden", "subscription %.100q: the token %s may take jobs of %s alone", name, i.Name, strings.Join(i.Subscriptions, ", "))
}

// May says whether somebody may do what a role is needed for.
func (i Identity) May(need Role) bool {
	if need == Worker {
		return i.Role == Worker || i.Role == Admin
	}
	return need > Worker && i.Role >= need
}

// MayWork says whether somebody may take jobs of a subscription.
func (i Identity) MayWork(subscription string) bool {
	return i.May(Worker) && (i.Subscriptions == nil || slices.Contains(i.Subscriptions, subscription))
}

type identityKey struct{}

// Of returns who sent the request with this context; nobody, if that is not known.
func Of(ctx context.Context) Identity {
	who, _ := ctx.Value(identityKey{}).(Identity)
	return who
}

// With returns a context of requests of somebody.
func With(ctx context.Context, who Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, who)
}
