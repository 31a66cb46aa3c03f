// Package pubsubsink publishes messages to topics of Google Cloud Pub/Sub.
//
//	batch ─▶ one Publish for each message with an ordering key, and for all without one ─▶ an id for each message ─▶ accepted
//	           └─ refused for what is in it ─▶ each half once more, until the one to blame is alone
//
// The client is that of the API, not the one that gathers messages by itself: that one tries again for a minute, without regard for who waits, and after
// an error refuses all that follows for a key until somebody says that it may go on. Here the relay does both: it repeats, and holds a key back meanwhile.
// All messages of a Publish must have one ordering key, so each key has a Publish of its own.
//
// One connection carries everything; the library makes it when it is wanted, and again.
//
// # What happens on each failure
//
//	no connection, no answer in time, RESOURCE_EXHAUSTED, UNAVAILABLE, ABORTED, INTERNAL, UNKNOWN     unavailable
//	NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED, FAILED_PRECONDITION, no credentials, TLS, guard    misconfigured
//	INVALID_ARGUMENT, OUT_OF_RANGE                                                                    each half once more; of one alone: permanent
//	too large, headers that no attribute can be                                                       permanent, before anything is sent
//	an answer without an id for it                                                                    retryable
//
// No topic is ever created.
package pubsubsink
