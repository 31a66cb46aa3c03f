package migrations

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"

	"github.com/postrider/postrider/internal/dbconn"
)

//go:embed *.sql
var files embed.FS

const (
	upMarker   = "-- +goose Up\n"
	downMarker = "-- +goose Down\n"

	createPublication = "CREATE PUBLICATION postrider FOR TABLE postrider.outbox WITH (publish = 'insert', publish_via_partition_root = true);"
	dropPublication   = "DROP PUBLICATION postrider;"
)

// newProvider is for a database whose publication is ours.
func newProvider(db *sql.DB) (*goose.Provider, error) { return provide(db, false) }

// provide runs each file in a transaction of its own whose statements wait for locks for a short time only. A publication
// of our name that is somebody else's is left alone, and the schema does without.
func provide(db *sql.DB, foreignPublication bool) (*goose.Provider, error) {
	sources, err := read()
	if err != nil {
		return nil, err
	}
	var list []*goose.Migration
	for _, m := range sources {
		if foreignPublication {
			m.up = strings.Replace(m.up, createPublication, "", 1)
			m.down = strings.Replace(m.down, dropPublication, "", 1)
		}
		list = append(list, goose.NewGoMigration(m.version, m.run(m.up), m.run(m.down)))
	}
	return goose.NewProvider(goose.DialectPostgres, db, nil,
		goose.WithGoMigrations(list...), goose.WithDisableGlobalRegistry(true), goose.WithTableName(versionTable))
}

// source is one file.
type source struct {
	name     string
	version  int64
	up, down string
}

// read takes the files apart. goose would split them into statements; the server does so, too.
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
		number, _, _ := strings.Cut(path.Base(e.Name()), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		head, down, _ := strings.Cut(string(text), downMarker)
		_, up, found := strings.Cut(head, upMarker)
		if !found {
			return nil, fmt.Errorf("%s: no %q", e.Name(), strings.TrimSpace(upMarker))
		}
		list = append(list, source{e.Name(), version, up, down})
	}
	return list, nil
}

// run executes a half of the file.
func (s source) run(text string) *goose.GoFunc {
	return &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		// Behind a pooler, each transaction is pinned for itself: before the text, which is read as a whole, is sent. Without arguments,
		// pgx hands it to the server as it is.
		for _, sql := range append(slices.Clone(dbconn.Pins), fmt.Sprintf("SET LOCAL lock_timeout = '%dms';\n%s", lockTimeout.Milliseconds(), text)) {
			if _, err := tx.ExecContext(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		return nil
	}}
}
