// Package expression has what a subscription's settings say about messages in CEL (Common Expression Language, cel.dev): which of them it
// wants, by what they are told apart, and what is delivered instead of them.
//
//	text ── Filter, Name, Payload, … ──▶ Program ── Wants, Value, Transform.Of ──▶ what it says of a message
//	  └─▶ CompileError: line, column, what would be right
//
// # What an expression sees
//
//	topic, key     text; no key is ""
//	payload        the JSON value, null if the message carries bytes
//	body           the bytes, null if the message carries JSON
//	headers        texts by name
//	id, priority   whole numbers
//	created_at     a time
//
// A whole number of the payload is an int if it fits into 64 bits, any other number a double; numbers of both kinds compare with each other.
// Nothing else is to be had, no clock above all: an expression says the same of a message whenever it is asked.
//
// # What is bounded
//
// The text (maxText) and how deep it may be nested, what one evaluation may cost (maxCost: some tens of milliseconds at most; what is quick on a
// small message is not counted, since counting takes longer than that), what is made of a message (maxMade), and what stays of a message's evaluations: some
// results, and of what takes room, such as a payload that was read, no more than keptBytes of all messages together.
//
// # What is shared
//
// Programs of the same text are one while any of them is in use. What one has said of a message, its Memo keeps: however many subscriptions
// have the same program, a message that they share is evaluated once, and its payload is read once, when the first expression wants it.
package expression
