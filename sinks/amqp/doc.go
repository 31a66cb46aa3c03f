// Package amqpsink publishes messages to RabbitMQ, and to what speaks AMQP 0-9-1 and has publisher confirms.
//
//	Deliver(batch) ─▶ a channel of its own ─▶ basic.publish, one for each message: mandatory, persistent
//	   ▲                                        ├─ basic.return, then basic.ack ─▶ no queue took it
//	   │                                        ├─ basic.ack ──────────────────▶ accepted
//	   └── outcomes ◀───────────────────────────┼─ basic.nack ─────────────────▶ retryable
//	                                            └─ channel.close ──────────────▶ unknown for all without an answer: each once more, alone
//
// One connection carries all channels, and each batch has one by itself while it is out. A connection is made when a batch wants one.
//
// A message has the attributes of CloudEvents as headers, with the prefix cloudEvents_ of its AMQP binding, and is the binary mode of that. The
// basic properties say the same to whoever knows no CloudEvents: message-id, type (the topic), timestamp, content-type, app-id.
//
// # Whose fault it is
//
// A server that does not like one message (it is larger than max_message_size, or its headers are) closes the channel, and with it all that
// is without an answer there. So what was among others then is sent once more, by itself; only then it is to blame.
//
// # What happens on each failure
//
//	no connection, a server that shuts down, no confirm in time                                unavailable
//	an alarm of the server (memory, disk): it reads nothing until that is over                 unavailable, after a wait for it
//	wrong user or password, no such virtual host or exchange, no permission, TLS, the guard    misconfigured
//	no queue is bound for the routing key                                                      misconfigured for that message, or dropped
//	a nack: a queue is full and rejects, or failed                                             retryable for that message
//	larger than max_message_bytes, headers that do not fit into a frame                        permanent, before anything is sent
//	refused alone                                                                              permanent
//
// # Invariants
//
//   - Nothing is accepted without an ack, and nothing that was returned.
//   - What got no answer is not on its way any longer when it is sent again, as far as this side can see to it: the connection is reset, so that
//     the server's kernel drops what nobody has read. While an alarm keeps the server from reading, the connection stays, and nothing else is sent
//     until all that went before was answered.
//   - No exchange, queue or binding is ever created.
package amqpsink
