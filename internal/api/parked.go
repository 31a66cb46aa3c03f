package api

import (
	"context"
	"net/http"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/dbconn"
)

type changed struct {
	Changed int64    `json:"changed"`
	Refused []string `json:"refused" doc:"What kept others of the ids from it."`
}

func (a *API) parked() {
	type change struct {
		Named
		Body struct {
			IDs []int64 `json:"ids" minItems:"1" maxItems:"1000" doc:"The messages."`
		}
	}
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/subscriptions/{name}/redrive", id: "redrive-messages", tag: messageTag, time: changeTime,
		summary: "Try parked messages again, from the first attempt", description: "Many are redriven by an operation."},
		func(ctx context.Context, db *dbconn.Conn, in *change) (changed, error) {
			if err := named(in.Body.IDs); err != nil {
				return changed{}, err
			}
			n, refused, err := admin.Redrive(ctx, db, in.Name, in.Body.IDs)
			return changed{n, refusals(refused)}, err
		})
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/subscriptions/{name}/discard", id: "discard-messages", tag: messageTag, time: changeTime,
		summary: "Give parked messages up for good", description: "Their rows stay for a while. Many are discarded by an operation."},
		func(ctx context.Context, db *dbconn.Conn, in *change) (changed, error) {
			if err := named(in.Body.IDs); err != nil {
				return changed{}, err
			}
			n, refused, err := admin.Discard(ctx, db, in.Name, in.Body.IDs)
			return changed{n, refusals(refused)}, err
		})
}

// named guards commands for which no ids at all would mean all messages.
func named(ids []int64) error {
	if len(ids) == 0 {
		return problem.New(http.StatusBadRequest, "invalid_request", "ids: must name at least one message; an operation is about all that a filter names")
	}
	return nil
}

// refusals lists what is joined in an error.
func refusals(err error) []string {
	texts := []string{}
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range list.Unwrap() {
			texts = append(texts, one.Error())
		}
	}
	return texts
}
