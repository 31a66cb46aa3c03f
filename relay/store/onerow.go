package store

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// OfOneRow says whether the server refused a statement for what some row holds, or was to hold: whatever the statement does for others
// is then done without that row, so that one subscription's trouble is nobody else's.
func OfOneRow(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pgErr.Code) != 5 {
		return false
	}
	switch pgErr.Code[:2] {
	case "22", "23", "54", "P0": // data, constraints, limits, somebody's trigger
		return true
	}
	return pgErr.Code == "XX001" || pgErr.Code == "XX002" // damaged data, a damaged index
}
