// Package http1 exchanges requests and answers in HTTP/1.1, plain or over TLS, with one goroutine for both: half the processor time of
// net/http's client for each delivery. The parsing of answers stays the standard library's, and so does TLS.
//
//	Client.RoundTrip ─▶ a slot ─▶ an idle connection, or a new one ─▶ write ─▶ read the headers ─▶ body ─▶ idle again, or closed
//
// What holds:
//   - A connection carries one request at a time, and no more are in use than there are slots.
//   - A request is sent again only if a connection that was kept broke before a byte of an answer came.
//   - What came while a connection was idle is no answer: such a connection is closed. Below TLS, Records tell what is an answer's from what is not.
//   - A connection is used again only if all of the request went out, and all of the answer was read.
//   - The deadline, or the end of the context, ends whatever the connection does then, and nothing of the next request.
//   - What a receiver says is read up to bounds: MaxHeader for the headers, the caller's for the body.
package http1
