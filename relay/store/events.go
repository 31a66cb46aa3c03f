package store

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/internal/dbconn"
)

// Events are what operators are to know, which waits for messages to be made of it.
type Events struct{ Pool *dbconn.Pool }

// Tell makes messages of events. It commits as the server is set to: what is told from here is a message like any other.
func (e Events) Tell(ctx context.Context) error {
	// By itself, without a transaction around it: this is asked every other second, by relays that have nothing to do.
	_, err := e.Pool.Exec(ctx, "SELECT postrider.tell_events()")
	if err != nil {
		return fmt.Errorf("make messages of events: %w", err)
	}
	return nil
}
