package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Place is where a subscription is delivered from.
type Place struct {
	Scheme string // of its sink
	// Owner is the incarnation of the relay that delivers it, empty while none does; Name and URL are that relay's.
	Owner, Name, URL string
}

// Places says who delivers what, by subscription.
func (r Registry) Places(ctx context.Context) (map[string]Place, error) {
	rows, err := r.Pool.Query(ctx, `SELECT s.name, split_part(s.sink, ':', 1), coalesce(c.owner::text, ''), coalesce(r.name, ''), coalesce(r.url, '')
		FROM postrider.subscriptions s LEFT JOIN postrider.cursors c ON c.subscription = s.name LEFT JOIN postrider.relays r ON r.incarnation = c.owner`)
	if err != nil {
		return nil, fmt.Errorf("read who delivers what: %w", err)
	}
	places := make(map[string]Place)
	var name string
	var at Place
	_, err = pgx.ForEachRow(rows, []any{&name, &at.Scheme, &at.Owner, &at.Name, &at.URL}, func() error {
		places[name] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read who delivers what: %w", err)
	}
	return places, nil
}

// Key is what relays know each other by.
func (r Registry) Key(ctx context.Context) (key []byte, err error) {
	if err := r.Pool.QueryRow(ctx, "SELECT key FROM postrider.relay_keys").Scan(&key); err != nil {
		return nil, fmt.Errorf("read the relays' key: %w", err)
	}
	return key, nil
}
