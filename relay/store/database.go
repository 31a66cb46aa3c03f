package store

import "github.com/postrider/postrider/internal/dbconn"

// Database is the outbox as a relay reads it for the cursors that are its own.
type Database struct {
	Pool        *dbconn.Pool
	Incarnation string   // owns the cursors
	Replica     *Replica // nil: there is none
	Source      string   // id of the database, the first part of message ids
}
