// Package events tells programs and pages what becomes of messages, while it happens: GET /api/v1/events, a stream of server-sent events.
//
//	runners ──▶ watch.Feed ──▶ each listener: its filter, its pace
//	               ▲  ▲
//	other relays ──┘  └── the attendant: what changes about subscriptions
//
// A listener gets a snapshot first, then changes. An event's id is the relay's incarnation and a number; with the last one that it has got
// (Last-Event-ID) a listener goes on where it was, as long as the relay remembers that. Else, and when it was too slow, it is told of a gap and
// gets a snapshot again.
//
// While somebody listens, one goroutine, the attendant, looks at the subscriptions and keeps a connection to each other relay that delivers some.
// Who listens for another relay gets no snapshot, and only what this one knows by itself.
package events
