// Package watch tells whoever listens what becomes of messages, while it happens.
//
//	runners ── save ── TellAll ──▶ pending ── every 50 ms, for all listeners at once ──▶ batches (a ring) ◀── Next ── each listener, at its own pace
//
// A change is encoded once, however many listen. A batch is never changed once it is published, so that listeners read it without a lock. A
// listener that is slower than the ring is told that it has missed something; it keeps nobody waiting, and neither does the number of
// listeners. While nobody listens, a runner looks at one number and goes on.
//
// A change is told once it is saved: whoever then looks into the database sees it, too.
package watch
