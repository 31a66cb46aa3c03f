package sinks

import "time"

// Lessor is a Sender that need not keep what takes long: it ends such a delivery as LeasedTo somebody, and says later what came of the
// lease. A lease is a row that outlives the relay; a delivery that has not been leased costs none.
type Lessor interface {
	Relinquisher
	// Serve is called once, before the first Send, with the leases that were found when the subscription was taken over. Who has one is
	// given some time to say that he still has it.
	//
	// By settle the Lessor says what came of a lease, its own or one of these, with the outcomes that it ends deliveries with: nil, Failed,
	// Snoozed and so on. LeasedTo means that the lease goes on for so long, and no more is to come of it than that. The attempt was counted when it was leased; Snoozed
	// and Released take that back. settle returns at once, calls no method of the Lessor, and may be called under any lock and by several
	// goroutines, but for one token not before the done that leased it was called. What it says of a token that is none any more counts for nothing.
	Serve(leases []Lease, settle func(token int64, outcome error))
	// LeaseOut ends, soon and as LeasedTo, each delivery that somebody has had for that long: too much that came later is settled already. It
	// waits for nothing.
	LeaseOut(since time.Duration)
}

// Troubled is a Sender that knows what keeps deliveries waiting, where nothing fails.
type Troubled interface {
	Sender
	// Trouble says so, "" if there is nothing to tell, in the same words for as long as it lasts; and when to ask again. It waits for nothing.
	Trouble() (text string, again time.Duration)
}

// Canceller is a Lessor that can be told that deliveries are not wanted any more.
type Canceller interface {
	Lessor
	// Cancel ends deliveries and leases of these messages as Released, soon, and tells whoever has one when he calls: what he says of it later
	// counts for nothing. True: only what nobody has. It waits for nothing.
	Cancel(messages map[int64]bool)
}

// Lease is a delivery that somebody has, and that is kept as a row.
type Lease struct {
	// ID is the message's.
	ID int64
	// Token and Worker are what LeasedTo was given.
	Token  int64
	Worker string
	// Attempt is the number of the attempt.
	Attempt int
	// Until is when the lease was to end, as far as that was recorded.
	Until time.Time
}

// LeasedTo is Leased for a Lessor, whose worker has the message: no callback comes, but the Lessor's word.
func LeasedTo(worker string, lease time.Duration, token int64, progress []byte) error {
	return &OutcomeError{Kind: KindLeased, After: lease, Token: token, Worker: worker, Progress: progress, Err: errLeasedTo}
}
