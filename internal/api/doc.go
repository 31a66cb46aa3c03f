// Package api is what programs ask a relay for, and tell it to do, over HTTP: /api/v1, described by OpenAPI 3.1 at /api/v1/openapi.json.
//
//	request ── access.Gate ── who is it? ──▶ operation: may they? ── lends a connection ──▶ internal/admin ──▶ JSON
//
// It adds nothing to what internal/admin does: the commands print the same types. An operation is one call of register, and its document,
// checks of what is sent, and the role that it needs follow from that. Jobs, which workers ask for by the thousand, are package
// api/jobs: here stands only their description.
//
// Invariants: a look at the database is bounded in time and rows, and ends there when its caller is gone. Errors are problem details (RFC 9457)
// with a code. What is sent must be what the document says: members and parameters that nobody knows are refused.
package api
