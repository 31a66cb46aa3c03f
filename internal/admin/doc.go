// Package admin is what an operator may ask of a database and tell it: functions on a connection that return data and errors with a code.
// The commands print what they return; an HTTP API would encode it.
//
//	Status, Subscriptions, ListParked, ShowParked, ReadRelays     ask
//	Apply, Pause, Resume, Remove, Replay, Redrive, Discard        change subscriptions and what they have parked
//	Enqueue                                                       puts one message into the outbox
//	Migrate, Rebase, SetMaxMessage, Grant                         change the schema or what belongs to all of it
//	PlanRemoval, Uninstall                                        take it away
//	doctor.Examine                                                says what is wrong, and what mends it
//
// An error is an *Error, whose code says what to do about it, or one of the database's: CodeOf knows both, and codes alone decide the
// exit status of a command and the status of an HTTP answer. dbconn.Explain makes of an error what a person should read.
//
// Invariants: nothing that is returned shows a secret of a sink or of options. What changes several rows does it in one transaction, and
// locks a subscription's row before what belongs to it, as the schema's own functions do. A dry run does what it is about, and rolls it back.
package admin
