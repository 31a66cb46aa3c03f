// Package rooms has nothing but tests of the house itself.
//
// arrows_test.go holds the direction of imports: each package (a room) says which others it may import, and who may know PostgreSQL.
// The arrows point inwards, to what knows least:
//
//	snapshot ← message ← {wal, store, queue} ← feed
//	snapshot ← progress
//	{progress, store, queue, subscription, sinks} ← delivery
//	relay → all of them; cmd wires
//
// sizes_test.go holds how large a file, a function and a struct may be. What was larger when the rule came is in exceptions_test.go by
// name, with its size: a list that may only shrink, since what is not in it, or has grown, or is small enough now, fails.
package rooms
