// Package metrics has what a relay counts, whether or not anybody collects it. Series of a subscription are made when there is something to
// count, and end with it.
package metrics
