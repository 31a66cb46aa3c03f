package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"

	"github.com/postrider/postrider/internal/dbconn"
)

//go:embed *.sql
var files embed.FS

const createPublication = "CREATE PUBLICATION postrider FOR TABLE postrider.outbox WITH (publish = 'insert', publish_via_partition_root = true);"

// provide runs each migration in a transaction of its own whose statements wait for locks for a short time only. A publication
// of our name that is somebody else's is left alone, and the schema does without.
func provide(db *sql.DB, list []source, foreignPublication bool) (*goose.Provider, error) {
	var all []*goose.Migration
	for _, m := range list {
		if foreignPublication {
			for i := range m.files {
				m.files[i].text = strings.Replace(m.files[i].text, createPublication, "", 1)
			}
		}
		all = append(all, goose.NewGoMigration(m.version, &goose.GoFunc{RunTx: m.run}, nil))
	}
	return goose.NewProvider(goose.DialectPostgres, db, nil,
		goose.WithGoMigrations(all...), goose.WithDisableGlobalRegistry(true), goose.WithTableName(versionTable))
}

// source is one migration: the files whose names begin with its version, in their order.
type source struct {
	version int64
	files   []file
}

type file struct{ name, text string }

// read groups the files by their versions.
func read() ([]source, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var list []source
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(e.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if len(list) == 0 || list[len(list)-1].version != version {
			list = append(list, source{version: version})
		}
		last := &list[len(list)-1]
		last.files = append(last.files, file{e.Name(), string(text)})
	}
	return list, nil
}

// pin makes a transaction what it is meant to be, whatever a role has made the default: behind a pooler each is pinned for itself.
func pin(ctx context.Context, tx *sql.Tx) error {
	for _, sql := range slices.Concat([]string{"SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE"}, dbconn.Pins) {
		if _, err := tx.ExecContext(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// execPinned runs a text in a transaction of its own.
func execPinned(ctx context.Context, db *sql.DB, text string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err = pin(ctx, tx); err == nil {
		_, err = tx.ExecContext(ctx, text)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// run executes the files. The transaction is pinned before the text, which is read as a whole, is sent.
func (s source) run(ctx context.Context, tx *sql.Tx) error {
	if err := pin(ctx, tx); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("SET LOCAL lock_timeout = '%dms'", lockTimeout.Milliseconds())); err != nil {
		return err
	}
	for _, f := range s.files { // without arguments, pgx hands a text to the server as it is
		if _, err := tx.ExecContext(ctx, f.text); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}
