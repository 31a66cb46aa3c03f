package dbconn

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dberr"
)

// Explain adds to a database's error what mends it, where that is known. It turns err into the text for a person.
func Explain(err error) string {
	text := err.Error()
	if dberr.Connecting(err) {
		text = dberr.Cause(err)
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return text
	}
	if Hides(err) {
		return text + "\n" + HidesRemedy
	}
	switch pgErr.Code {
	case "42501": // insufficient_privilege
		text += "\n`postrider grants --relay ROLE` (for applications --app ROLE) prints the SQL that grants what is needed"
	case "3F000", "42P01", "42883": // no such schema, table, function
		if strings.Contains(pgErr.Message, "postrider") {
			text += "\nthe database holds no Postrider schema, or an older one: run `postrider migrate`"
		}
	}
	if pgErr.Hint != "" {
		text += "\nhint: " + pgErr.Hint
	}
	return text
}
