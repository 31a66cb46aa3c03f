// Package natstest runs real NATS servers with JetStream inside this process, to be
// stopped, started and robbed of their leaders, and reads streams without missing
// anything.
//
// A [Cluster] is one server, or three that replicate (RAFT). Client ports and stores
// survive restarts. Everything is below one directory: a store and a log per server.
//
// # Nothing confirmed is missed
//
// Whoever checks deliveries must know each message that JetStream confirmed, also when
// the stream is to be deleted. [Cluster.Seize] does that in an order that leaves no gap:
//
//	other subjects ──▶ marker answered ──▶ sealed ──▶ read ──▶ deleted
//	nothing new        what was queued     nothing
//	is routed here     has been stored     can be stored
//
// A publisher sees the same as for a deleted stream, from the first step on: nobody
// listens on the subject.
//
// [Cluster.Read] insists on every sequence number. A gap is an error, so streams must
// not lose messages by themselves: [Cluster.CreateStream] sets DiscardNew.
//
// # Taps
//
// A [Tap] is a plain subscription. It sees each publication whether or not a stream
// stores it, except while it has no connection. Mind that it listens: where a subject has
// no stream any more, a publisher is told so at once ("no responders") unless there is a tap,
// in which case it waits for its timeout.
//
// # Limits
//
// The server library cannot be killed. StopServer is orderly: leaders of RAFT groups
// step down first, and stores are flushed.
package natstest
