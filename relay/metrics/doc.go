// Package metrics has what a relay tells Prometheus, whether or not anybody collects it. The table names all metrics: an entry is one, with
// who tells it. docs/metrics.md is made of it.
//
//	what happens       a field of Metrics or Subscription counts it, when it happens
//	what is so now     an entry's own function reads it off a Now, when somebody collects
//
// A Now holds what the relay knows, and what the last look at the database has shown, if that is not too old: nobody who collects waits for the
// database. Series of a subscription are made when there is something to tell, and end when another relay has it, or nobody any more.
package metrics
