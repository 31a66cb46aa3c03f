package relay

import (
	"errors"
	"unicode/utf8"

	"github.com/postrider/postrider/sinks"
)

// onlyUTF8 refuses messages that hold text which is not UTF-8, as a database in SQL_ASCII may. In any other, PostgreSQL converts
// what it sends.
var onlyUTF8 = sinks.Stage{Before: func(d *sinks.Delivery) (settled bool, outcome error) {
	outcome = checkText(d.Message)
	return outcome != nil, outcome
}}

func checkText(m *sinks.Message) error {
	what := ""
	switch {
	case m.JSON && !utf8.Valid(m.Payload):
		what = "payload"
	case !utf8.Valid(m.Headers):
		what = "headers"
	case !utf8.ValidString(m.Key):
		what = "key"
	default:
		return nil
	}
	return sinks.Permanent(errors.New("the " + what + ": not UTF-8, and the database, which is in SQL_ASCII, does not say what it is"))
}
