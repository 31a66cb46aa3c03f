// Package sinks is the contract between the relay and the destinations it delivers to.
//
// A sink hands messages to one destination and says, per message, what came of it. It knows neither PostgreSQL nor
// cursors nor retries: it classifies a failure, and the relay decides what to do about it.
//
//	outcome                      meaning                          the relay
//	nil                          accepted by the destination      settles the message
//	Retryable (any other error)  this message failed              parks it and tries again with backoff; dead after max attempts
//	Permanent                    this message can never work      makes it a dead letter at once, with the reason
//	Unavailable                  the destination is down          opens the breaker, unless others get through: probes
//	Gone                         the destination wants no more    pauses the subscription and says so
//
// Package sinktest is the conformance suite that every sink passes.
package sinks
