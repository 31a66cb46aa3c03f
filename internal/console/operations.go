package console

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

// mostOperations are listed.
const mostOperations = 100

// operationsData is what templates/operations.html shows.
type operationsData struct {
	Now  time.Time
	List []operationRow
}

// operationRow is an operation with what is said of it.
type operationRow struct {
	admin.Operation
	condition
}

// Finished says whether nothing more comes of it.
func (o operationRow) Finished() bool { return o.FinishedAt != nil }

// Done are the messages that it is through with.
func (o operationRow) Done() int64 { return o.Changed + o.Refused }

func (h *Handler) operations(ctx context.Context, q *request) (*page, error) {
	var d operationsData
	err := h.DB(ctx, func(db *dbconn.Conn) error {
		list, err := admin.Operations(ctx, db, mostOperations)
		for _, o := range list {
			d.Now = o.Now
			d.List = append(d.List, operationRow{o, operationCondition(o)})
		}
		return err
	})
	return &page{Title: "Operations", Section: "/operations", Body: "operations", Every: 2 * time.Second, Data: d}, err
}

// operationCondition says how far an operation is, and what keeps it.
func operationCondition(o admin.Operation) condition {
	switch {
	case o.State == "failed":
		return condition{"failed", bad, o.Trouble}
	case o.State == "done":
		return condition{"done", good, ""}
	case o.State == "cancelled":
		return condition{"cancelled", odd, "what was done stays"}
	case o.Trouble != "":
		return condition{o.State, odd, "the last chunk was not done, and is tried again: " + o.Trouble}
	case o.State == "waiting" && o.Now.Sub(o.AskedAt) > 30*time.Second:
		return condition{"waiting", odd, "no relay has begun: relays work operations off, does one run?"}
	}
	return condition{o.State, good, ""}
}

func (h *Handler) operation(ctx context.Context, q *request) (*page, error) {
	id, err := pathNumber(q, "operation")
	if err != nil {
		return nil, err
	}
	var o admin.Operation
	err = h.DB(ctx, func(db *dbconn.Conn) (err error) {
		o, err = admin.ShowOperation(ctx, db, id)
		return err
	})
	p := &page{Title: fmt.Sprintf("Operation %d", id), Section: "/operations", Body: "operation", Data: operationRow{o, operationCondition(o)}}
	if o.FinishedAt == nil {
		p.Every = time.Second
	}
	return p, err
}

func (h *Handler) cancelOperation(ctx context.Context, q *request) (*done, error) {
	id, err := pathNumber(q, "operation")
	if err != nil {
		return nil, err
	}
	var o admin.Operation
	err = h.DB(ctx, func(db *dbconn.Conn) (err error) {
		o, err = admin.CancelOperation(ctx, db, id)
		return err
	})
	return &done{to: fmt.Sprintf("/operations/%d", id), say: fmt.Sprintf("Operation %d is cancelled: the %s that it had done stay so.", id, human.Plural(o.Changed, "message"))}, err
}
