package admin

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// putScope gives what was applied the scope that it is applied with. That is a difference if it had none.
func (how ApplyOptions) putScope(ctx context.Context, tx pgx.Tx, kind, name string, action *string, was []difference) ([]difference, error) {
	if how.Scope == "" {
		return was, nil
	}
	var put bool
	if err := tx.QueryRow(ctx, "SELECT postrider.put_scope($1, $2, $3)", kind, name, how.Scope).Scan(&put); err != nil {
		return was, err
	}
	if !put || *action == "created" {
		return was, nil
	}
	*action = "changed"
	return append(was, difference{"scope", "none", how.Scope}), nil
}

// sameScope is the condition that a row s has the scope $2, or none if that is empty.
func sameScope(kind string) string {
	return "coalesce((SELECT c.scope FROM postrider.scopes c WHERE c.kind = '" + kind + "' AND c.name = s.name), '') = $2"
}

// inScope returns which of the schedules have the scope that is applied.
func (how ApplyOptions) inScope(ctx context.Context, tx pgx.Tx, names []string) ([]string, error) {
	rows, err := tx.Query(ctx, "SELECT s.name FROM postrider.schedules s WHERE s.name = ANY ($1) AND "+sameScope("schedule")+" ORDER BY s.name", names, how.Scope)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
