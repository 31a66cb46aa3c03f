package doctor

import "context"

// check is one check: either it runs, or it is a gate.
type check struct {
	name string // under which it is reported where it cannot be made
	run  func(*examination, context.Context) error
	// gate reports what it finds, and whether the checks after it make sense.
	gate func(*examination, context.Context) bool
}

// checks are all checks, in the order in which they run and report.
var checks = []check{
	{name: "primary", run: (*examination).checkPrimary},
	{name: "pooler", run: (*examination).checkPooler},
	{name: "connections", run: (*examination).checkConnections},
	{name: "clock", run: (*examination).checkClock},

	{name: "role", gate: (*examination).checkPurpose}, // an application's role is not told to become a relay's

	{name: "role", run: (*examination).checkAttributes},
	{name: "streaming", run: (*examination).checkStreaming},
	{name: "row security", run: (*examination).checkRowSecurity},

	{name: "schema", gate: (*examination).checkSchema},

	{name: "privileges", run: (*examination).checkPrivileges},
	{name: "identity", run: (*examination).checkIdentity},
	{name: "replica", run: (*examination).checkReplica},
	{name: "publication", run: (*examination).checkPublication},
	{name: "notify", run: (*examination).checkNotify},
	{name: "message size", run: (*examination).checkMaxMessage},
	{name: "transactions", run: (*examination).checkTransactions},
	{name: "prepared", run: (*examination).checkPrepared},
	{name: "segments", run: (*examination).checkSegments},
	{name: "relays", run: (*examination).checkRelays},
	{name: "relays", run: (*examination).checkUnable},
	{name: "relays", run: (*examination).checkUnreached},
	{name: "subscriptions", run: (*examination).checkSubscriptions},
	{name: "schedules", run: (*examination).checkSchedules},
	{name: "operations", run: (*examination).checkOperations},
	{name: "workers", run: (*examination).checkWorkers},
	{name: "destinations", run: (*examination).checkSinks},
	{name: "dead letters", run: (*examination).checkDead},
	{name: "ids", run: (*examination).checkSequence},
}
