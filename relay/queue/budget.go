package queue

import "sync/atomic"

// Budget bounds the bytes that all queues hold together, so that a thousand slow subscriptions cost no more than one.
type Budget struct {
	Limit  int64        // bytes
	Used   atomic.Int64 // bytes that the queues hold
	Queues atomic.Int64 // queues that have not been dropped
}

// Share returns the bytes that a queue may hold whatever others do.
func (b *Budget) Share() int64 { return b.Limit / max(b.Queues.Load(), 1) }

// allows says whether a queue that holds own bytes may take more: always up to its fair share, else while there is room.
func (b *Budget) allows(own, more int64) bool {
	return own+more <= b.Share() || b.Used.Load()+more <= b.Limit && own+more <= b.Limit/4
}
