// Package snssink publishes messages to topics of Amazon SNS.
//
//	batch ─▶ PublishBatch, ten at most ─▶ the id of each in Successful ─▶ accepted
//
// Requests, messages and outcomes are those of sinks/internal/amazon, and so is what happens on each failure: see sinks/sqs.
//
// # Invariants
//
//   - Nothing is accepted whose id is not in Successful with the id of a message. What becomes of it at those who are subscribed is the topic's affair.
//   - A FIFO topic gets each key as a group, and at most one message of it in one request; the message id is the deduplication id.
//   - No topic and no subscription is ever created.
package snssink
