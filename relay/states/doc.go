// Package states is the table of the states that a parked delivery may have. Whoever decides by a state asks it here: the engine, the
// statements that it runs, status, metrics and commands. What SQL says by itself (a constraint, views, commands, indexes) is tested
// against it, and the table in docs/operations.md is made of it.
//
//	                ┌────────────┐    202    ┌────────┐  complete   ┌───────────┐
//	scheduled ─due─▶│  in lanes  │──────────▶│ leased │────────────▶│ completed │─▶ no row
//	                │            │           └────────┘  fail       ├───────────┤
//	held ───key────▶│            │                └────────────────▶│  failed   │─▶ retrying, dead
//	retrying ─due──▶└────────────┘                                  └───────────┘
//	     ▲            │ │ │   └ accepted: no row
//	     └─retryable──┘ │ └ its key waits: held
//	                    └ permanent, or too often: dead ──discard──▶ discarded
//
// A command may redrive (retrying) or discard (discarded) from several of them, see Redrive and Discard.
package states
