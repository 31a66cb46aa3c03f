// Package guard decides which addresses may be connected to: by every sink, and by whatever else takes addresses from others.
//
//	name ── resolver ──▶ address ── Guard.Control, a net.Dialer's ──▶ connect, or an error with the rule
//
// An address is judged when it is about to be dialled, after names were resolved, so that neither a spelling nor a change of DNS gets
// around it. Where a proxy resolves names, CheckHost judges those that are written as addresses.
//
// A refusal is an error that names the address and the network that refused it; sinks report it as Unavailable, so that nothing is
// lost and the reason shows.
package guard
