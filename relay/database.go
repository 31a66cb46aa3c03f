package relay

import "github.com/postrider/postrider/internal/dbconn"

// database is the outbox as a relay reads it for the cursors that are its own.
type database struct {
	pool        *dbconn.Pool
	incarnation string // owns the cursors
	source      string // id of the database, the first part of message ids
}
