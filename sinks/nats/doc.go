// Package natssink publishes messages to NATS: to a JetStream stream, or to core NATS.
//
// The subject is the prefix followed by the topic. The data is the raw payload. These headers come with it:
//
//	Nats-Msg-Id            the message id: JetStream drops a message with an id that it has seen within its duplicate window
//	Nats-Expected-Stream   the stream, if one is configured: no other stream may take the message. In large batches, a subject
//	                       whose last message that stream has stored goes without
//	Postrider-Key          the key, percent-encoded (sinks.EncodeHeader), absent if there is none
//	Content-Type           application/octet-stream for bytes, absent for JSON, unless the message has a content-type of its own
//
// Then follow the message's own headers, among them traceparent. Names that begin with Nats- are commands to the server
// (one of them empties a stream), so a message that carries one, or a Postrider- one, becomes a dead letter with that
// reason. Attempt and subscription are not passed on: what JetStream stores is whichever attempt came first.
//
// # JetStream
//
// A batch is published without waiting in between, and a message counts as accepted when its acknowledgement from the
// stream has come, a duplicate's included. No publish is repeated by the client library, because that would reorder,
// and nothing is buffered while the connection is down, because a message that was reported as failed must not go out
// later behind the relay's back.
//
// Each message has an address of its own for its acknowledgement, which is never used again: what comes late, twice or
// from somebody else who listens to the subject settles no other message. The first answer to a message counts. In batches of 64
// and more, 32 messages share an address; unless their answers show that each was stored, they are sent again by themselves. A batch
// waits once, for all its acknowledgements, until one timeout after its last message; those of a connection that is
// lost will not come.
//
// What is wrong with the set-up (no such stream, a subject that no stream captures, another stream's subject, missing
// permissions, credentials, TLS) is Misconfigured with a reason that says what to do: it would fail every message, and mends without loss.
// The sink never creates a stream. A message is Permanent if it is too large for the server or the stream, if its
// subject is not valid, or if its headers cannot be sent.
//
// # Who we are
//
// Options.User and Password, Token, NKey or Creds refer to secrets. Files are read again when they change, and what they hold is used at
// the next connect; a connection with an nkey that has changed is replaced by another. If a file cannot be read any more, or holds
// nonsense, the last value stays in use, and the log says so once. What a sink's URL has in their place works, with a warning.
//
// What is for the servers that the URL names is not told to those that one of them names, unless TLS proves who they are.
//
// # Core NATS
//
// With Core nobody confirms anything. "Accepted" then means that the server has read the message, not that anybody
// received it: without a subscriber at that moment it is gone. Use it for signals that may be lost.
package natssink
