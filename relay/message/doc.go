// Package message has the row of the outbox, its decoder from PostgreSQL's binary format (queries and the stream alike), and the list of
// columns. A row comes with its payload and headers only if these are known to be small; else they are withheld, and read by themselves
// when its turn comes. The formats are those of the *_send functions in src/backend/utils/adt.
package message
