package dbconn

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// Hides says whether a statement was refused because row security applies to the role on one of its tables, and would hide rows from it.
func Hides(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "42501" && pgErr.Routine == "check_enable_rls" // src/backend/utils/misc/rls.c; the text may be in any language
}

// HidesRemedy says what to do about it.
const HidesRemedy = "row security applies to this role there, and a relay must see every row: ALTER ROLE … BYPASSRLS, or ALTER TABLE … DISABLE ROW LEVEL SECURITY " +
	"(`postrider doctor` names the role and the tables)"
