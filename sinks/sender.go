package sinks

import "context"

// Sender is the contract for destinations whose deliveries end one by one, such as workers that take a message and are done with it
// when they are: one that takes long delays the messages of its key and nothing else. What Sink says of Deliver's outcomes holds for
// those of done. Its methods may be called by several goroutines at once.
//
// Every Sender can be used as a Sink, through AsSink, and every Sink as a Sender, through AsSender. Who opens a destination returns a
// Sink; whoever can deliver one by one asks whether it is a Sender as well.
type Sender interface {
	// Send begins one delivery and returns without waiting for its end: it waits for nothing that the destination does. When the
	// delivery ends, done is called with what came of it, exactly once: by any goroutine, also by the caller's before Send has
	// returned, so that whoever calls Send holds no lock that done needs. done returns at once and calls no method of the Sender;
	// several may be called at the same time.
	//
	// A delivery ends when the destination has confirmed or refused it, or when the sink has waited for as long as it sees fit. When
	// ctx, which lasts as long as the delivery, is cancelled, done is called soon, with an error unless the delivery was confirmed.
	// Two messages of one key are never out at the same time. Once done has returned, the sink keeps no reference to d.
	Send(ctx context.Context, d Delivery, done func(outcome error))

	// Limits tells the relay how to feed this sink: Lanes is the number of deliveries that may be out at once; Batch is 1.
	Limits() Limits

	// Close ends what is still out, with an error each, and releases connections. It returns when every done has returned. No
	// Send is under way or follows.
	Close() error
}

// Relinquisher is a Sender that need not be waited for when the relay stops or hands the subscription over.
type Relinquisher interface {
	Sender
	// Relinquish ends every delivery soon, and so each that is sent later: as Leased with the time that is left to it if somebody works
	// on it, whose word then comes as a callback, else as Released. It waits for nothing.
	Relinquish()
}

// LateLoader is a Sender that may keep deliveries for long before anybody has a use for the message: a large one it loads when it has.
type LateLoader interface {
	Sender
	// LoadsLate says so.
	LoadsLate()
}
