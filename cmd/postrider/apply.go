package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/relay"
)

// change is what became of one subscription.
type change struct {
	Name string `json:"name"`
	// Action is created, changed or unchanged.
	Action string `json:"action"`
	// Fields are those that differed: topics, sink, settings.
	Fields []string `json:"fields,omitempty"`
}

// applySpecs brings the database's subscriptions to what the specs say, in one transaction: it creates, changes in place what
// differs, and leaves alone what does not, and those that no spec names. The cursor and the state stay.
func applySpecs(ctx context.Context, db *pgx.Conn, specs []spec) ([]change, error) {
	specs = slices.Clone(specs)
	slices.SortFunc(specs, func(a, b spec) int { return cmp.Compare(a.Name, b.Name) }) // rows are locked in this order
	for attempt := 1; ; attempt++ {
		var changes []change
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
			changes, err = applyAll(ctx, tx, specs)
			return err
		})
		// Another relay, started at the same time, created one first: look again.
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "23505" && attempt < 5 {
			continue
		}
		return changes, err
	}
}

func applyAll(ctx context.Context, tx pgx.Tx, specs []spec) ([]change, error) {
	changes := make([]change, 0, len(specs))
	for _, s := range specs {
		c, err := applyOne(ctx, tx, s)
		if err != nil {
			return nil, fmt.Errorf("subscription %q: %w", s.Name, err)
		}
		changes = append(changes, c)
	}
	return changes, nil
}

func applyOne(ctx context.Context, tx pgx.Tx, s spec) (change, error) {
	settings, err := json.Marshal(s.Settings)
	if err != nil {
		return change{}, err
	}
	var topics []string
	var sink string
	var is []byte
	err = tx.QueryRow(ctx, "SELECT topics, sink, settings::text FROM postrider.subscriptions WHERE name = $1 FOR UPDATE", s.Name).Scan(&topics, &sink, &is)
	if errors.Is(err, pgx.ErrNoRows) {
		_, err = tx.Exec(ctx, "SELECT postrider.subscribe($1, $2, $3, $4::jsonb, $5)", s.Name, s.Topics, s.Sink, string(settings), s.start)
		return change{Name: s.Name, Action: "created"}, err
	}
	if err != nil {
		return change{}, err
	}
	fields := differences(s, topics, sink, is)
	if len(fields) == 0 {
		return change{Name: s.Name, Action: "unchanged"}, nil
	}
	if !slices.Contains(fields, "topics") {
		s.Topics = topics // in another order they mean the same, and are no change
	}
	_, err = tx.Exec(ctx, "UPDATE postrider.subscriptions SET topics = $2, sink = $3, settings = $4::jsonb WHERE name = $1", s.Name, s.Topics, s.Sink, string(settings))
	return change{Name: s.Name, Action: "changed", Fields: fields}, err
}

// differences names what a subscription in the database has otherwise than the spec. Defaults that are written out equal
// those that are not.
func differences(s spec, topics []string, sink string, settings []byte) []string {
	var fields []string
	if !sameSet(s.Topics, topics) {
		fields = append(fields, "topics")
	}
	if s.Sink != sink {
		fields = append(fields, "sink")
	}
	if !sameSettings(s.Subscription, sink, settings) {
		fields = append(fields, "settings")
	}
	return fields
}

// sameSettings fills in the defaults on both sides: those of the kind of sink, then the engine's.
func sameSettings(want relay.Subscription, sink string, settings []byte) bool {
	is := relay.Subscription{Sink: sink}
	var err error
	if is.Settings, err = relay.DecodeSettings(settings); err != nil {
		return false
	}
	for _, s := range []*relay.Subscription{&want, &is} {
		setDefaults(s)
		if s.Settings.Validate() != nil {
			return false
		}
	}
	return want.Settings.Equal(is.Settings)
}

func sameSet(a, b []string) bool {
	normal := func(l []string) []string { return slices.Compact(slices.Sorted(slices.Values(l))) }
	return slices.Equal(normal(a), normal(b))
}

// describe says what became of a subscription.
func (c change) describe() string {
	if len(c.Fields) == 0 {
		return c.Action
	}
	return c.Action + ": " + strings.Join(c.Fields, ", ")
}
