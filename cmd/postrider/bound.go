package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
)

// setMaxMessage makes the database refuse messages larger than most, if that is set. It happens once, at start: relays that want
// different limits do not undo one another's again and again.
func setMaxMessage(ctx context.Context, db *dbconn.Conn, most messageSize, logger *slog.Logger) error {
	if most == 0 {
		return nil
	}
	var before int64
	if err := db.QueryRow(ctx, "SELECT postrider.max_message()").Scan(&before); err != nil {
		return fmt.Errorf("read the largest size of a message: %w", err)
	}
	if before == int64(most) {
		return nil
	}
	_, err := db.Exec(ctx, "SELECT postrider.set_max_message($1)", int64(most))
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42501" {
		return fmt.Errorf("POSTRIDER_MAX_MESSAGE=%s: %w: `postrider grants --relay ROLE` prints what the role needs", most, err)
	}
	if err != nil {
		return fmt.Errorf("POSTRIDER_MAX_MESSAGE=%s: %w", most, err)
	}
	logger.Info("the database accepts messages up to another size now", "from", byteSize(before), "to", byteSize(most))
	return nil
}
