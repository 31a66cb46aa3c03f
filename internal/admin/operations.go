package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// Filter says which messages an operation is about: all that it says holds for them. Without anything else it needs Everything.
type Filter struct {
	Kind         string     `json:"kind"` // redrive, discard or cancel
	Subscription string     `json:"subscription"`
	Topic        *string    `json:"topic"` // a pattern
	Key          *string    `json:"key"`
	Failure      *string    `json:"failure"` // a part of the last error; * stands for anything
	Since        *time.Time `json:"since"`   // created then or later
	Until        *time.Time `json:"until"`   // created before
	Everything   bool       `json:"-" db:"-"`
}

func (f Filter) args() []any {
	return []any{f.Kind, f.Subscription, f.Topic, f.Key, f.Failure, f.Since, f.Until, f.Everything}
}

// Preview is what an operation would be about. It is bounded: more says that there may be others beside these messages.
type Preview struct {
	Messages int64 `json:"messages"`
	More     bool  `json:"more"`
}

// PreviewOperation counts what an operation would be about, and changes nothing.
func PreviewOperation(ctx context.Context, db *dbconn.Conn, f Filter) (p Preview, err error) {
	if err := requireSubscription(ctx, db, f.Subscription); err != nil {
		return p, err
	}
	err = db.QueryRow(ctx, "SELECT messages, more FROM postrider.preview_operation($1, $2, $3, $4, $5, $6, $7, $8)", f.args()...).Scan(&p.Messages, &p.More)
	return p, err
}

// StartOperation asks for an operation, which relays work off. The reason is kept with messages that are cancelled.
func StartOperation(ctx context.Context, db *dbconn.Conn, f Filter, reason string) (o Operation, err error) {
	if err := requireSubscription(ctx, db, f.Subscription); err != nil {
		return o, err
	}
	var id int64
	err = db.QueryRow(ctx, "SELECT postrider.start_operation($1, $2, $3, $4, $5, $6, $7, $8, nullif($9, ''))", append(f.args(), db.Encoding().Storable(reason))...).Scan(&id)
	if err != nil {
		return o, err
	}
	return ShowOperation(ctx, db, id)
}

// Operation is what is to be done, or was done, to many messages; the keys are stable.
type Operation struct {
	ID int64 `json:"id"`
	Filter
	Reason  *string   `json:"reason"`
	State   string    `json:"state"` // waiting, running, done, cancelled or failed
	AskedBy string    `json:"asked_by"`
	AskedAt time.Time `json:"asked_at"`
	OperationProgress
	Now time.Time `json:"-"` // by the database's clock
}

// OperationProgress is how far an operation is.
type OperationProgress struct {
	Expected     int64      `json:"expected"`
	ExpectedMore bool       `json:"expected_more"` // there were more
	Looked       int64      `json:"looked"`
	Changed      int64      `json:"changed"`
	Refused      int64      `json:"refused"`
	Trouble      string     `json:"trouble"`
	TroubledAt   *time.Time `json:"troubled_at"` // since when no chunk could be done
	Relay        *string    `json:"relay"`
	WorkedAt     *time.Time `json:"worked_at"`
	FinishedAt   *time.Time `json:"finished_at"`
}

var operationColumns = fmt.Sprintf(`id, kind, subscription, topic, key, failure, %s, %s, reason, state, asked_by, asked_at, coalesce(expected, 0), coalesce(expected_more, true),
	looked, changed, refused, coalesce(trouble, ''), troubled_at, relay, worked_at, finished_at, clock_timestamp()`, writable("since"), writable("until"))

// Operations lists the newest operations.
func Operations(ctx context.Context, db Querier, limit int) ([]Operation, error) {
	if limit < 1 {
		return nil, errorf(Invalid, "limit %d: must be at least 1", limit)
	}
	rows, err := db.Query(ctx, "SELECT "+operationColumns+" FROM postrider.operations ORDER BY id DESC LIMIT $1", limit)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]Operation{}, rows, pgx.RowToStructByPos[Operation])
}

// PressingOperations lists those that are not finished, and those that failed within a day: the oldest, and no more than that.
func PressingOperations(ctx context.Context, db Querier, limit int) ([]Operation, error) {
	rows, err := db.Query(ctx, "SELECT "+operationColumns+` FROM postrider.operations
		WHERE finished_at IS NULL OR state = 'failed' AND finished_at > clock_timestamp() - interval '1 day' ORDER BY id LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]Operation{}, rows, pgx.RowToStructByPos[Operation])
}

// pressingTime is how long an operation may make no progress before somebody should look.
const pressingTime = time.Minute

// Stands says why an operation stands still, if it does: in trouble, or since nobody works on it.
func (o Operation) Stands() (trouble, idle bool) {
	if o.FinishedAt != nil {
		return false, false
	}
	since := o.AskedAt
	if o.WorkedAt != nil {
		since = *o.WorkedAt
	}
	return o.TroubledAt != nil && o.Now.Sub(*o.TroubledAt) >= pressingTime, o.Now.Sub(since) >= pressingTime
}

// ShowOperation returns one operation.
func ShowOperation(ctx context.Context, db Querier, id int64) (Operation, error) {
	rows, err := db.Query(ctx, "SELECT "+operationColumns+" FROM postrider.operations WHERE id = $1", id)
	if err != nil {
		return Operation{}, err
	}
	o, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Operation])
	if errors.Is(err, pgx.ErrNoRows) {
		return o, noOperation(id)
	}
	return o, err
}

func noOperation(id int64) error {
	return errorf(NotFound, "there is no operation %d: `postrider operations list` lists them; they are removed a week after their end", id)
}

// CancelOperation ends an operation: what it has done stays. It returns the operation as it is then.
func CancelOperation(ctx context.Context, db Querier, id int64) (Operation, error) {
	var state string
	switch err := db.QueryRow(ctx, "SELECT postrider.cancel_operation($1)", id).Scan(&state); {
	case CodeOf(err) == NotFound && err != nil:
		return Operation{}, noOperation(id)
	case err != nil:
		return Operation{}, err
	}
	o, err := ShowOperation(ctx, db, id)
	if err == nil && state != "cancelled" {
		err = errorf(Conflict, "operation %d is %s already", id, state)
	}
	return o, err
}

// PastTime reads a time, or how long ago it was by the database's clock; empty: none. The name is what it is called in an error.
func PastTime(ctx context.Context, db Querier, name, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	if ago, ok := longAgo(text); ok {
		at, err := timeAgo(ctx, db, ago)
		if err != nil {
			return nil, err
		}
		text = at
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, errorf(Invalid, "%s %q: must be a time such as 2026-01-31T12:00:00Z, or how long ago, such as 1h", name, text)
	}
	return &at, nil
}
