// Package payments has the example of payments for who wants to run it: the demo and its own test.
package payments

import _ "embed"

// Schema makes the tables, the subscriptions and the tasks. Worker is one transaction of a worker. Both are for psql.
var (
	//go:embed payments.sql
	Schema string
	//go:embed worker.sql
	Worker string
)
