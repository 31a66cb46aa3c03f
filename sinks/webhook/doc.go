// Package webhook delivers messages by HTTP POST, as Standard Webhooks and CloudEvents 1.0 say.
//
// # The request
//
// Options.Format says what a request holds:
//
//	raw          one message: the body is its payload
//	binary       one message: the body is its payload, and the attributes of a CloudEvent are headers as well, ce-id, ce-type, …
//	structured   one message as a CloudEvent in JSON (application/cloudevents+json)
//	batch        several CloudEvents in a JSON array (application/cloudevents-batch+json)
//	ndjson       several CloudEvents in JSON, one per line (application/x-ndjson)
//
// These headers come with it:
//
//	webhook-id               the message id, the same on every attempt: receivers drop what they have seen
//	webhook-timestamp        the time of this attempt in unix seconds, which is signed; absent without secrets
//	webhook-signature        signatures of "webhook-id.webhook-timestamp.body", see below; absent without secrets
//	postrider-subscription   the subscription's name
//	content-type             application/json or application/octet-stream, unless the message has a content-type of its own
//	user-agent               postrider/<version>
//
// Where the body is the payload, these say what an event would:
//
//	postrider-topic          the topic
//	postrider-key            the key, absent if there is none
//	postrider-priority       1, 3 or 4; absent of the default
//	postrider-attempt        2, 3, …; absent on the first attempt
//
// That is all there is to say of a message, once: the message id holds its source and when it was inserted. Each header is work for the
// receiver, so that CloudEvents' own come with their formats alone.
//
// Id, topic, key and subscription are percent-encoded (sinks.EncodeHeader), because a header's value cannot hold every
// byte. Then follow Options.Headers and the message's own headers, among them traceparent; text beyond ASCII goes out as
// UTF-8. A header that cannot be sent, or that would replace one that the subscription sets, one that begins with
// webhook-, postrider- or ce-, or one that frames the request (Host, Content-Length, Connection, …), makes the message a
// dead letter with that reason: nothing is dropped silently.
//
// A request with several events has no topic, key and attempt of its own. Its webhook-id is batch_ and 32 hexadecimal
// digits that stand for the ids of its events in their order: the same events have the same one. Receivers drop what they
// have seen by the ids of events.
//
// # Events
//
// All formats but raw are those of CloudEvents. An event has these attributes; in the binary format they are headers,
// percent-encoded as CloudEvents says:
//
//	id                       the message id
//	source                   Options.Source, else /postrider/ and the source id of the database
//	type                     Options.Type, else the topic
//	time                     when the message was inserted
//	subject, partitionkey    the key, absent if there is none; one with control characters appears percent-encoded
//	datacontenttype          the content type, in the binary format the header of that name
//
// In JSON there are postridertopic and postriderattempt as well, and the message's own headers: attributes have names of
// lower-case letters and digits, so that X-Shop-Id becomes xshopid. A header that would become an attribute that has a
// meaning already makes the message a dead letter. Payloads of type application/json (or text/json) are in data as they
// are, all others in data_base64. Headers such as Content-Encoding are not sent with a body that is an event.
//
// # Signatures
//
// Each of Options.Secrets refers to one or more secrets, separated by blanks or line ends; lines that begin with # are
// comments. All of them sign, separated by spaces in webhook-signature, so that secrets can be rotated without a gap: add
// the new one, let receivers change over when the log says that it is in use and the attempts under way have ended (a
// timeout later at most), remove the old one.
//
//	whsec_…   24 to 64 bytes in base64       v1,…    HMAC-SHA256
//	whsk_…    an ed25519 key of 64 bytes     v1a,…   ed25519; the receiver's part is whpk_ and the public key in base64
//	          (or its seed of 32) in base64
//
// A reference is env:NAME or file:/path; Config.Secrets says which of them may be used. A file is read again at most once a second, while it is used; replace it by
// renaming, so that nobody sees half of it. If it cannot be read or holds nonsense, the last value stays in use, and the
// log says so once. Secrets show neither in errors nor in logs.
//
// # Batches
//
// A batch is divided into as few requests as Options.BatchBytes allows; a larger event goes alone. An answer with a 2xx
// status and the type application/json may settle single events, each as an answer with its status would:
//
//	{"results": [
//	  {"id": "5eed0123-42-1767323045678900", "status": 422, "reason": "no such shop"},
//	  {"id": "5eed0123-43-1767323045678901", "status": 429, "retry_after": 30}
//	]}
//
// Reason is for people and optional, as is retry_after, in seconds. Events that it does not name are accepted. Results that
// cannot be read, or are longer than 1 MiB, are a failure of all events; any other answer with a 2xx status accepts them all.
//
// A batch that is refused for good (such as by 413 or 422) is sent again in halves, until the events at fault are alone
// and the others delivered. After any other failure each event is tried again alone, lest one bring down the others.
//
// # The answer
//
// The status decides the outcome; a 2xx settles the message whatever becomes of the response's body:
//
//	2xx                             delivered; Options.Receipts keeps the start of the body, see Config.Receipt
//	3xx                             tried again: redirects are not followed, the reason names the location
//	400, 413, 415, 422              dead at once; Options.Retry and Options.Dead change what a status means
//	401, 403, 404, other 4xx, 5xx   tried again, after Retry-After at the earliest
//	410                             the subscription is paused
//	429, 502, 503, 504              the whole endpoint rests, for Retry-After at least
//	no answer                       as 503 if no connection came about or time ran out, as 500 if the connection broke
//
// Retry-After is seconds or a date, by the clock of the answer's Date header, and capped by Options.RetryAfterMax.
// A header webhook-delivery in the answer goes before the status, as Standard Webhooks' delivery control has it: with
// abort-message a message that is not delivered is dead, with disable the subscription is paused. If a 2xx says disable, its
// message is delivered, and the next one finds the subscription's end without being sent. A batch that is answered with
// abort-message is divided like one that is refused, so that each event is asked for by itself.
//
// # Asynchronous deliveries
//
// With Options.Async, requests carry these headers as well:
//
//	postrider-id         the id of the outbox's row
//	postrider-token      the fencing token of this attempt: a positive number of 63 random bits
//	postrider-callback   the URL by which the receiver says what came of it, see Callbacks; absent without Config.CallbackURL
//
// An answer of 202 is then the outcome sinks.Leased: the receiver leases the message for Options.AsyncLease, or for
// the whole seconds, from one to those of seven days, that the answer's header postrider-lease asks for; any other value of it is
// ignored. Other answers mean what they always mean.
//
// # Sparing the receiver
//
// Options.Rate bounds the requests per second. Options.Concurrency bounds those under way: four to begin with, one more for
// each good answer, up to the lanes, so that they double in each round. Trouble halves them, and from then on they grow by
// one in each round. Trouble is 408, 429, 5xx, a broken connection or a timeout, and answers that take longer than a second
// and twice their usual time. Waiting for either bound is no failure. When the destination turns out to be down, or asks
// for a rest, those that wait are not sent and share that outcome.
//
// # Connections
//
// Connections are kept alive: over HTTP/1.1 one for each lane; over HTTP/2, where TLS negotiates it, all lanes share one,
// or as many as the receiver's limit of streams makes necessary. TLS is 1.2 at least. The files of Options.TLS, and the
// one that Options.Proxy refers to, are read again at most once a second, while the sink is used; after a change new
// requests take new connections. Trouble with the files keeps what was read last, and the log says so once. Each connection
// negotiates its protocol anew, and takes up the TLS session of an earlier one where the receiver allows that.
//
// Over HTTP/1.1, with TLS or without, and where there is no proxy, a request is written, and its answer read, by the goroutine
// that delivers it, at half the cost of net/http. What that does in goroutines of its own is done when a kept connection is about
// to be used: if it has ended, or something has come that nobody asked for, it is closed and another one taken.
//
// A request is sent again at once, over a new connection, only if one that was kept broke before the answer began: it may have
// been closed long ago. Else what happens next is for the relay to decide.
//
// A guard judges each address that is about to be dialled, after names were resolved: link-local, multicast, broadcast
// and unspecified addresses and those of clouds' metadata services are refused, in whatever IPv6 address they hide;
// Options.Guard says more. It cannot know the prefix of a network's own NAT64 or tunnels: deny these where there are any.
// A refusal makes the destination unavailable, so that nothing is parked and the reason shows.
//
// Proxies of the environment are ignored, unless Options.Proxy asks for them. The guard judges the proxy's address, and of
// destinations only those that are written as addresses: names are resolved by the proxy. An https destination is reached
// through a tunnel, an http one by handing the request to the proxy.
//
// An answer is bounded in time by the attempt's timeout and in memory by 64 KiB for its headers and some KiB of its body.
// Trouble with TLS, with the proxy, or with a connection of HTTP/2 as a whole makes the destination unavailable, with
// advice in the reason.
//
// Errors name scheme and host of the URL only: user info, path and query may hold secrets.
package webhook
