// Package sql is the destination of workers that come for their messages with postrider.take, each in its own transaction. Nothing is
// delivered there: no relay opens it.
package sql

import (
	"context"
	"errors"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Destination is whoever calls postrider.take.
var Destination = sinks.Destination{
	Name:    "workers in SQL",
	Schemes: []string{"sql"},
	Example: "sql:",
	Check:   func(t sinks.Target, _ *secret.Store) error { return check(t) },
	Open: func(context.Context, sinks.Target, sinks.Surroundings) (sinks.Sink, error) {
		return nil, errors.New("sql: nothing is delivered there: workers come for it with postrider.take")
	},
}

func check(t sinks.Target) error {
	switch {
	case t.URL != "sql:":
		return errors.New("sql takes nothing after the colon")
	case t.Lanes != 0 || t.Batch != 0 || t.Timeout != 0:
		return errors.New("sql takes neither lanes, batch nor timeout: shards says how many workers can be at work at once, and take how many messages a worker has, and for how long")
	}
	return sinks.NoOptions(t, "sql")
}
