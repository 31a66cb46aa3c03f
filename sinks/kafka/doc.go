// Package kafkasink produces messages to Kafka, and to what speaks its protocol.
//
//	Deliver(batch) ── render ──▶ record ── room in memory ──▶ client (one per sink) ──▶ leader of the key's partition
//	   ▲                            │ left behind, when Deliver does not wait any longer      │
//	   └── outcome ◀── classify ◀───┴────────────── its promise: stored by all in-sync replicas, or why not
//
// A record has the message's key and its payload as they are, and the headers of CloudEvents' Kafka binding in binary mode: ce_id is the message
// id, ce_type the topic, ce_source the database, ce_time the time of the INSERT. Then follow content-type, postrider-priority where it is not the
// default, and the message's own headers. Its time is that of sending, since a topic's retention counts from that.
//
// # What counts as delivered
//
// The promise of a record without an error: acks=all, by an idempotent producer. Nothing else does.
//
// The client sends what has no answer again by itself, under the same sequence number, so that brokers store it once and in order. It
// cannot be told to stop without giving that up. So Deliver waits for one ack_timeout, calls a message without an answer Unavailable, and leaves
// its record behind. When the relay delivers that message again, nothing is sent: the record is waited for. After two minutes the client gives
// a record up: it raises its epoch, so that brokers refuse what still comes of it, and the message is sent anew.
//
// # Whose fault it is
//
// Brokers judge batches, and the client fails all that waits for a partition together. So a message that is among others when a broker says
// "too large", "invalid" or "corrupt" is sent once more, by itself and with nothing else on its way; only then it is to blame.
//
// # Invariants
//
//   - Messages of a key are stored in order: the relay has one of a key out at a time, and all of a partition go through one client's queue.
//   - A message is Permanent only when it was refused alone, or is known not to fit before it is sent.
//   - Records without an answer are bounded: by max_pending, and by 64 MiB, over all batches. What was left behind counts.
//   - No topic is ever created. Addresses that brokers name are under the same guard as those of the URL.
//   - A record has memory of its own: the message's may be used for something else once Deliver has returned.
package kafkasink
