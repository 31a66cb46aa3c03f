// Package redissink adds messages to Redis streams.
//
//	batch ─▶ a pipeline of XADD, one for each message ─▶ the id of an entry each ─▶ accepted
//	           └─ an error for one of them ─▶ that one fails; the others are what their answers say
//
// An error of a command in a pipeline is an answer, not an error of the pipeline: each is looked at. What got no answer may have been added, and
// comes again: consumers drop repeats by message_id.
//
// # What happens on each failure
//
//	no connection, a server that loads, is out of memory, is a replica, or a cluster that is down   unavailable
//	wrong user or password, no right to XADD, a key that is no stream, TLS, the guard               misconfigured
//	a message that is larger than max_message_bytes                                                 permanent
//	any other answer                                                                                retryable for that message
//	no answer in time                                                                               unavailable
package redissink
