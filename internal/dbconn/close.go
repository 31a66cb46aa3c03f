package dbconn

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Close ends a connection and, if that ends by itself already since its context was cancelled, waits for it: else goroutines and a
// session would outlive a stop. What waits for too long for the server's last word gets none.
func Close(conn *pgconn.PgConn) {
	if !ends(conn) {
		conn.Conn().Close()
		ends(conn)
	}
}

func ends(conn *pgconn.PgConn) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
	select {
	case <-conn.CleanupDone():
		return true
	case <-ctx.Done():
		return false
	}
}
