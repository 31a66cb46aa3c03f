package main

import (
	"context"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
)

// withDB runs f on a connection to a database that has this build's schema.
func (a *app) withDB(ctx context.Context, f func(ctx context.Context, db *dbconn.Conn) error) error {
	return a.withRawDB(ctx, func(ctx context.Context, db *dbconn.Conn, _ *config.Settings) error {
		if err := admin.CheckSchema(ctx, db); err != nil {
			return err
		}
		return f(ctx, db)
	})
}

// withRawDB runs f on a connection to the database, whatever is in it.
func (a *app) withRawDB(ctx context.Context, f func(ctx context.Context, db *dbconn.Conn, s *config.Settings) error) error {
	s, err := a.settings()
	if err != nil {
		return err
	}
	if err := s.RequireDatabase(); err != nil {
		return err
	}
	db, err := admin.Connect(ctx, string(s.DatabaseURL))
	if err != nil {
		return err
	}
	defer admin.Close(db)
	return f(ctx, db, s)
}
