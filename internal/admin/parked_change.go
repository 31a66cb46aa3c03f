package admin

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/states"
)

// parkedChange is what redrive and discard have in common.
type parkedChange struct {
	function string
	from     []string // the states that it changes when it is given ids
}

var (
	redrive = parkedChange{"redrive", states.Names(func(s states.State) bool { return s.Redrive })}
	discard = parkedChange{"discard", states.Names(func(s states.State) bool { return s.Discard })}
)

// Redrive makes parked messages be tried again, from the first attempt: those with the ids, or with nil all dead letters. It returns how
// many, and, as refused, what keeps others of the ids from it.
func Redrive(ctx context.Context, db *dbconn.Conn, name string, ids []int64) (n int64, refused, err error) {
	return redrive.apply(ctx, db, name, ids)
}

// Discard gives parked messages up for good, as Redrive has it.
func Discard(ctx context.Context, db *dbconn.Conn, name string, ids []int64) (n int64, refused, err error) {
	return discard.apply(ctx, db, name, ids)
}

func (c parkedChange) apply(ctx context.Context, db *dbconn.Conn, name string, ids []int64) (n int64, refused, err error) {
	if err := requireSubscription(ctx, db, name); err != nil {
		return 0, nil, err
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var err error
		if refused, err = c.refused(ctx, tx, name, ids); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT postrider."+c.function+"($1, $2)", name, ids).Scan(&n)
	})
	return n, refused, err
}

// refused says which of the ids cannot be changed, and why. The subscription's row is locked first, as every command does.
func (c parkedChange) refused(ctx context.Context, tx pgx.Tx, name string, ids []int64) (refused, err error) {
	if _, err := tx.Exec(ctx, "SELECT FROM postrider.subscriptions WHERE name = $1 FOR UPDATE", name); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, "SELECT id, state FROM postrider.parked WHERE subscription = $1 AND id = ANY ($2) FOR UPDATE", name, ids)
	if err != nil {
		return nil, err
	}
	states := map[int64]string{}
	var id int64
	var state string
	if _, err := pgx.ForEachRow(rows, []any{&id, &state}, func() error {
		if !slices.Contains(c.from, states[id]) { // of an id that came twice, one that can be changed will do
			states[id] = state
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var errs []error
	for _, id := range ids {
		switch state, ok := states[id]; {
		case !ok:
			errs = append(errs, errorf(NotFound, "message %d is not parked", id))
		case !slices.Contains(c.from, state):
			errs = append(errs, errorf(Conflict, "message %d is %s: %s does nothing to it", id, state, c.function))
		}
	}
	return errors.Join(errs...), nil
}
