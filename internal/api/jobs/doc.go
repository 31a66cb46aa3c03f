// Package jobs is how workers ask for jobs over HTTP, and say what came of them.
//
//	POST /api/v1/jobs/take    hands out jobs, and waits for some
//	POST /api/v1/jobs/settle  says what came of jobs; may ask for the next ones
//	POST /api/v1/jobs/beat    says that the worker lives, what it holds, and how far it has come
//	GET  /api/v1/jobs/workers shows who has called
//
// It reads requests, checks them, and asks the hub (package sinks/pull), which knows all the rules. Requests and answers are JSON, errors
// are problem details (RFC 9457) with a code. docs/jobs-http.md is for who writes a worker.
//
// Invariants: a body is bounded before it is read. A request that a browser was lured into sending is refused: the name it was sent to
// must be one of this machine's own (a name of somebody else's that leads here would make the browser trust it), the body must say that it
// is JSON, and nothing is ever allowed to other origins.
package jobs
