// Package pacing spares destinations: it bounds how many deliveries begin in a second, and how many are under way at once.
//
//	Enter ── a place, within the concurrency ── a token, within the rate ──▶ deliver ──▶ Leave(Result)
//	                                                                                      │ learns: grow, halve
//	   whoever waits ◀──────────────── Down: shares that outcome, without being sent ─────┘
//
// Concurrency begins at First and grows by one for each good answer, so that it doubles in each round; trouble halves it, and from then
// on it grows by one in each round. Waiting is no failure.
//
// When a destination turns out to be down, all that wait are sent away with that outcome; those that come later try again. After End
// everything has that outcome.
package pacing
