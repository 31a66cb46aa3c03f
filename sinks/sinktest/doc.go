// Package sinktest is the conformance suite that every sink passes, against its real destination.
//
// A sink's test gives Run, or RunSender for a sinks.Sender, a Harness: a destination that is up and empty, and a way to open sinks to it. What a
// destination cannot do (being down, hanging) is left nil and skipped.
//
// Memory is a destination in memory whose deliveries end one by one, in any order.
//
// Proxy stands between a sink and a destination that listens on TCP, and plays the network: down, hanging, back again.
package sinktest
