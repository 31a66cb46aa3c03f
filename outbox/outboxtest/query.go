package outboxtest

import (
	"context"
	"errors"

	"github.com/postrider/postrider/outbox"
)

func pgxRows(tx outbox.Tx) query {
	return func(ctx context.Context, sql string, args []any, scan func(into func(...any) error) error) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows.Scan); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}

func sqlRows(tx outbox.SQLTx) query {
	return func(ctx context.Context, sql string, args []any, scan func(into func(...any) error) error) (err error) {
		rows, err := tx.QueryContext(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			if err := scan(rows.Scan); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}
