// Package sqssink sends messages to queues of Amazon SQS, and to what speaks its JSON protocol.
//
//	batch ─▶ SendMessageBatch, ten at most ─▶ the id of each in Successful ─▶ accepted
//
// Requests, messages and outcomes are those of sinks/internal/amazon. The queue's URL is asked for once, by name, and again after the queue was not found.
//
// # What happens on each failure
//
//	no connection, no answer in time, throttled (429, ThrottlingException), 5xx                  unavailable
//	wrong credentials, no permission, no such queue, a key of KMS that cannot be used, TLS, guard misconfigured
//	an entry in Failed                                                                           by its code, for that message
//	the whole request is refused for what is in it                                               each once more, alone: then permanent
//	larger than max_message_bytes with its attributes                                            permanent, before anything is sent
//	what the answer does not speak of                                                            retryable
//
// # Invariants
//
//   - Nothing is accepted whose id is not in Successful with the id of a message.
//   - A FIFO queue gets each key as a group, and at most one message of it in one request. The message id is the deduplication id: what is repeated
//     within five minutes is there once.
//   - No queue is ever created.
package sqssink
