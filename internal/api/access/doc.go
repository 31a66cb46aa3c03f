// Package access says who calls the API and the console, and what they may do.
//
//	request ── Gate ── whose token is it? ──▶ Identity (name, role) ──▶ handlers: Of(ctx).May(access.Operator)
//
// Tokens are references to secrets, each with a name and a role. A program sends one as `Authorization: Bearer TOKEN`; a person gives it
// to the page /login and gets a cookie, which is good for twelve hours and proves the token without holding it.
//
// Without tokens everybody who reaches the port is an admin: then the port must be on loopback, which settings see to, and the gate
// refuses what a browser may have been lured into: requests to a name that is not this machine's (a name of somebody else's that leads
// here), and requests that change something and come from a page of another origin. The second holds with tokens, too.
//
// Invariants: no answer, log or error shows a token. Tokens are compared in constant time. What is not known to be allowed is refused.
package access
