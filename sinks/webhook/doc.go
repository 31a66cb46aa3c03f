// Package webhook delivers each message with one HTTP POST.
//
// The body is the raw payload. These headers come with it:
//
//	webhook-id               the message id, the same on every attempt: receivers drop what they have seen
//	webhook-timestamp        the time of this attempt in unix seconds
//	postrider-topic          the topic
//	postrider-key            the key, absent if there is none
//	postrider-attempt        1, 2, …
//	postrider-subscription   the subscription's name
//	content-type             application/json or application/octet-stream, unless the message has a content-type of its own
//	user-agent               postrider/<version>
//
// Id, topic, key and subscription are percent-encoded (sinks.EncodeHeader), because a header's value cannot hold every
// byte. Then follow the message's own headers, among them traceparent; text beyond ASCII goes out as UTF-8. A header
// that cannot be sent, or that would replace one of those above or one that frames the request (Host, Content-Length,
// Connection, …), makes the message a dead letter with that reason: nothing is dropped silently.
//
// The status decides the outcome: see the table in status.go. Redirects are not followed, proxies of the environment
// are not used, and connections are kept alive, one for each lane, over HTTP/1.1. A 2xx status settles the message
// whatever becomes of the response's body.
//
// Errors name scheme and host of the URL only: user info, path and query may hold secrets.
package webhook
