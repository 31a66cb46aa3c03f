// Package postgres delivers to tables and functions of another PostgreSQL database, each message once.
//
//	batch ─▶ BEGIN; one statement: the inbox accepts what is new, which is inserted, or handed to the function; COMMIT ─▶ accepted
//	           └─ it fails for what one message is ─▶ each half by itself, until that one fails alone and the others have passed
//
// Arguments go in binary, as arrays: as text their quotes would be escaped here and unescaped there, which took the relay as long as all else.
//
// The inbox (package inbox) is in the destination's database and remembers, in the transaction of the effect, what was accepted. So a message
// that comes again, because the answer to COMMIT got lost or a relay was killed, has no second effect.
//
// # What happens on each failure
//
//	no connection, a server that stops, starts or is full     unavailable
//	no such database, role, table, function, inbox; rights    misconfigured, with the command or the GRANT that mends it
//	the address is refused by the guard                       misconfigured
//	a row that a constraint, a trigger or a type refuses      retryable for that message; the others of its batch pass
//	a conflict with others (deadlock, serialization)          tried again at once, a few times; then retryable
//	the answer to COMMIT gets lost                            unavailable; the message comes again and is found accepted
//	a message that went through too many databases            permanent: two outboxes feed each other
package postgres
