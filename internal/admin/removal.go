package admin

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/migrations"
)

// Removal is what would be done to remove Postrider, and what speaks against it.
type Removal = migrations.Removal

// PlanRemoval looks at what there is of Postrider, whole or in parts, and changes nothing.
func PlanRemoval(ctx context.Context, db *dbconn.Conn) (*Removal, error) {
	return migrations.PlanRemoval(ctx, db)
}

// Uninstall does what was planned. While something speaks against it, it does nothing unless force is set.
func Uninstall(ctx context.Context, db *dbconn.Conn, plan *Removal, force bool) error {
	if len(plan.Against) > 0 && !force {
		return errorf(Conflict, "nothing is removed: %s; if that does not matter (a relay that was killed stays registered), --force does it all the same",
			strings.Join(plan.Against, ", "))
	}
	err := plan.Remove(ctx, db)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42501" { // insufficient_privilege
		return errorf(Forbidden, "role %q may not remove it: run `postrider uninstall` as the schema's owner (%s)", db.Config().User, pgErr.Message)
	}
	return err
}
