// Package progress says what a cursor may become. It is pure: no clock, no I/O, no locks.
//
// Everything that the base sees is settled. Beyond it there may be a pass over the table, whose rows come in ascending order of id, and after
// the pass the windows that the feed dispatched. What is settled out of order is remembered message by message, up to a bound that the
// caller keeps. The base becomes a closed snapshot once nothing that it sees is unsettled.
package progress
