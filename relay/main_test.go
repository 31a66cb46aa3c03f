package relay

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		if _, err := migrations.Up(context.Background(), url); err != nil {
			return err
		}
		// The sinks of these tests are no kinds that anybody else knows.
		db, err := pgx.Connect(context.Background(), url)
		if err != nil {
			return err
		}
		_, err = db.Exec(context.Background(), "DROP TRIGGER sink_is_known ON postrider.subscriptions")
		return errors.Join(err, db.Close(context.Background()))
	})
	pgtest.Main(m)
}
