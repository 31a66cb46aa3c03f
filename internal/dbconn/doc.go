// Package dbconn opens every connection of the product, and makes them all alike, whatever the role, the database or the connection
// string sets.
//
// PostgreSQL lets a role, a database and a client set hundreds of things that change what a statement means, how a value is
// written, or how long anything may take. [pins] lists those that Postrider depends on.
//
// A connection to the server itself is pinned once, before anybody sees it: what the session sets wins over role, database and
// connection string. Behind a pooler the next transaction may run in another session, and what a session sets would reach other
// clients. There, each transaction is pinned for itself, so each statement runs in one: [Conn] and [Pool] see to that. Only what
// poolers carry over for every client (the encoding, the style of dates, the time zone) is asked for when the connection starts.
//
// What cannot be pinned is left alone on purpose: a role that the login role is made to take (ALTER ROLE … SET role) decides who
// owns what a migration creates, and synchronous_commit how safe a commit is.
package dbconn
