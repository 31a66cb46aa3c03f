// Package hooktest is an HTTP receiver whose behaviour can be switched at any time.
//
// A [Receiver] listens on one loopback port and has as many endpoints as there are
// paths, each with a [Behaviour] of its own. Every request is decided once, and the
// decision is recorded before any of the answer is written:
//
//	request ─▶ body read ─▶ decided and recorded (one at a time) ─▶ answer, late answer, half an answer, none
//
// So the order of the recorded arrivals is an order that a client can rely on: what
// it sends after an answer is recorded after it. A request whose sender has already
// hung up is never accepted, however late it is read: else a message that was given
// up and sent again could seem to arrive after its successor.
//
// A switch takes effect between two decisions: nothing that is recorded after
// [Receiver.Set] returned was decided by the old behaviour. Likewise nothing is
// recorded after [Receiver.Refuse] or [Receiver.Stop] returned.
package hooktest
