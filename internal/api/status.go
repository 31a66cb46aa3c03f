package api

import (
	"context"
	"net/http"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/admin/doctor"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/dbconn"
)

func (a *API) status() {
	register(a, operation{need: access.Viewer, method: http.MethodGet, path: "/status", id: "get-status", tag: "status",
		summary: "Where each subscription stands, and the relays", description: "Counts are bounded: lag_more says that there are more messages than lag_messages."},
		func(ctx context.Context, db *dbconn.Conn, _ *struct{}) (*admin.StatusReport, error) {
			return admin.Status(ctx, db)
		})

	register(a, operation{need: access.Viewer, method: http.MethodGet, path: "/relays", id: "list-relays", tag: "status",
		summary: "The relays that are registered, alive or not", description: "unable says by subscription what a relay cannot deliver, for something that it lacks."},
		func(ctx context.Context, db *dbconn.Conn, _ *struct{}) (out relayList, err error) {
			out.Relays, err = admin.ReadRelays(ctx, db)
			return out, err
		})

	register(a, operation{need: access.Viewer, method: http.MethodGet, path: "/doctor", id: "get-doctor", tag: "status", time: doctorTime,
		summary: "What is wrong with the database, and what mends it", description: "The checks of `postrider doctor`, as the relay's role."},
		func(ctx context.Context, _ *dbconn.Conn, _ *struct{}) (findingList, error) {
			return findingList{a.Examine(ctx)}, nil
		})
}

type relayList struct {
	Relays []admin.RelayStatus `json:"relays"`
}

type findingList struct {
	Findings []doctor.Finding `json:"findings"`
}
