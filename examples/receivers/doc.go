// Package receivers tests the examples beside it: small receivers of webhooks in Go, Python and JavaScript, with nothing
// but the standard library of each.
package receivers
