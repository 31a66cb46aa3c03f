package outbox_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/outbox"
)

// way is one of the ways into the table: pgx or database/sql, alone or in a batch, in each mode of the driver.
type way struct {
	name    string
	enqueue func(t *testing.T, messages []outbox.Message) ([]int64, error)
}

var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

func ways(t *testing.T, url string) (list []way) {
	for _, mode := range modes {
		config, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		config.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := conn.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		db := stdlib.OpenDB(*config)
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		list = append(list,
			way{"pgx one " + mode.String(), inPgx(conn, func(tx pgx.Tx, m []outbox.Message) ([]int64, error) {
				return each(m, func(m outbox.Message) (int64, error) { return outbox.Enqueue(t.Context(), tx, m) })
			})},
			way{"pgx batch " + mode.String(), inPgx(conn, func(tx pgx.Tx, m []outbox.Message) ([]int64, error) {
				return outbox.EnqueueBatch(t.Context(), tx, m)
			})},
			way{"sql one " + mode.String(), inSQL(db, func(tx *sql.Tx, m []outbox.Message) ([]int64, error) {
				return each(m, func(m outbox.Message) (int64, error) { return outbox.EnqueueSQL(t.Context(), tx, m) })
			})},
			way{"sql batch " + mode.String(), inSQL(db, func(tx *sql.Tx, m []outbox.Message) ([]int64, error) {
				return outbox.EnqueueBatchSQL(t.Context(), tx, m)
			})})
	}
	return list
}

func each(messages []outbox.Message, enqueue func(outbox.Message) (int64, error)) (ids []int64, err error) {
	for _, m := range messages {
		id, err := enqueue(m)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// inPgx commits even after an error of f: a bad message must leave the transaction usable.
func inPgx(conn *pgx.Conn, f func(pgx.Tx, []outbox.Message) ([]int64, error)) func(*testing.T, []outbox.Message) ([]int64, error) {
	return func(t *testing.T, messages []outbox.Message) ([]int64, error) {
		t.Helper()
		tx := begin(t, conn)
		ids, err := f(tx, messages)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatalf("commit: %v", err)
		}
		return ids, err
	}
}

func inSQL(db *sql.DB, f func(*sql.Tx, []outbox.Message) ([]int64, error)) func(*testing.T, []outbox.Message) ([]int64, error) {
	return func(t *testing.T, messages []outbox.Message) ([]int64, error) {
		t.Helper()
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := f(tx, messages)
		if err := tx.Commit(); err != nil {
			t.Fatalf("commit: %v", err)
		}
		return ids, err
	}
}
