package migrations

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Step is a migration that this build has, or that the database has from a newer one.
type Step struct {
	Version int        `json:"version"`
	Files   []string   `json:"files"`      // none: this build does not know it
	Applied *time.Time `json:"applied_at"` // null: it is not applied
}

// Status returns the migrations of this build and of the database, in order.
func Status(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}) ([]Step, error) {
	list, err := read()
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	steps := make(map[int]*Step)
	for _, s := range list {
		step := &Step{Version: int(s.version)}
		for _, f := range s.files {
			step.Files = append(step.Files, f.name)
		}
		steps[step.Version] = step
	}
	rows, err := db.Query(ctx, "SELECT version_id, max(tstamp AT TIME ZONE 'UTC') FROM "+versionTable+" WHERE is_applied AND version_id > 0 GROUP BY version_id")
	if err == nil {
		var version int
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&version, &at}, func() error {
			if steps[version] == nil {
				steps[version] = &Step{Version: version}
			}
			applied := at
			steps[version].Applied = &applied
			return nil
		})
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		err = nil // there is no schema
	}
	if err != nil {
		return nil, fmt.Errorf("read which migrations are applied: %w", err)
	}
	var all []Step
	for _, version := range slices.Sorted(maps.Keys(steps)) {
		all = append(all, *steps[version])
	}
	return all, nil
}

// UpTo is Up, to an older version than the newest: for whoever takes one step at a time.
func UpTo(ctx context.Context, databaseURL string, version int) (int, error) {
	list, err := read()
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	at := slices.IndexFunc(list, func(s source) bool { return int(s.version) == version })
	if at < 0 {
		return 0, fmt.Errorf("migrate to %d: this build has the versions %d to %d", version, list[0].version, list[len(list)-1].version)
	}
	applied, err := up(ctx, databaseURL, list[:at+1])
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	return applied, nil
}
