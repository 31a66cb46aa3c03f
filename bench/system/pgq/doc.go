// Package pgq measures the method of PgQ (github.com/pgq/pgq), the queue of Skype's tools, as plain SQL: a few statements of our own, not its
// code, so that nothing is to be installed on the server and what is compared is the method.
//
// Events go into one of three tables, which take turns: the next one is truncated once nobody needs it. A tick is a row with a snapshot. A
// consumer gets the events between two ticks as a batch, those that the later snapshot sees and the earlier one does not, and finishes it by one
// update of its row: no event has a state. It publishes a batch to JetStream with message ids, in the way of the bare pipe, waits until all of
// it is stored, and asks for the next.
//
// # Settings
//
// PgQ's ticker looks once a second by default and makes a tick of 500 events, or after three seconds. Here the consumer asks for a tick before it
// asks for a batch, and rests for a millisecond if there is none, as Watermill tuned does: nothing of this method is faster. A backlog has a
// tick for every 10,000 events. Tables take turns every ten seconds, not every two hours, so that a measurement has that in it.
package pgq
