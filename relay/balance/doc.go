// Package balance says which relay should deliver which subscription. It is arithmetic: all relays read the same table, compute the
// same from it, and each does its own part, without a word between them.
//
//	table: who has what, who lacks what ─▶ Plan ─┬─▶ mine, and another should have it: drain, save, release
//	                                             ├─▶ nobody's, and I should have it: take over
//	                                             └─▶ everything else stays where it is
//
// A spread is balanced when no relay could be spared a cursor for one that has at least two fewer, directly or along a chain:
//
//	first (3) ── s0 ─▶ second (2) ── s4 ─▶ third (1)        second cannot be given anything, but has what third can deliver
//
// Of all balanced spreads, a plan is one that the fewest cursors have to change hands for, those aside that are nobody's: they cost
// nothing, wherever they go. All hand-overs of a chain are made at once.
//
// # Invariants
//
//   - A hand-over is made only where the spread gets better by it, and every one that a plan asks for leaves one fewer to make. So
//     plans come to an end: what is balanced stays as it is, and nothing goes to and fro.
//   - The plan of one table is the same for everybody: nothing depends on the order of a map, on a clock or on chance.
//   - A cursor goes to nobody who cannot deliver it.
//
// # When views differ
//
// A relay knows what it is about to release before the table says so, and a table may have changed since it was read. A cursor is taken
// only from whom it was seen with, so at worst a cursor is handed over once more than needed.
package balance
