package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

// SetMaxMessage makes the database refuse messages larger than most bytes, if that is not 0. It happens once, at start: relays that want
// different limits do not undo one another's again and again.
func SetMaxMessage(ctx context.Context, db *dbconn.Conn, most int64, logger *slog.Logger) error {
	if most == 0 {
		return nil
	}
	var before int64
	if err := db.QueryRow(ctx, "SELECT postrider.max_message()").Scan(&before); err != nil {
		return fmt.Errorf("read the largest size of a message: %w", err)
	}
	if before == most {
		return nil
	}
	_, err := db.Exec(ctx, "SELECT postrider.set_max_message($1)", most)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42501" {
		return fmt.Errorf("POSTRIDER_MAX_MESSAGE=%s: %w: `postrider grants --relay ROLE` prints what the role needs", human.Size(most), err)
	}
	if err != nil {
		return fmt.Errorf("POSTRIDER_MAX_MESSAGE=%s: %w", human.Size(most), err)
	}
	logger.Info("the database accepts messages up to another size now", "from", human.Size(before), "to", human.Size(most))
	return nil
}
