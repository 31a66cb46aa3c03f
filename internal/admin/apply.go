package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay/subscription"
)

// Change is what became of one subscription.
type Change struct {
	Name string `json:"name"`
	// Action is created, changed, unchanged or removed.
	Action string `json:"action"`
	// Fields are those that differed: topics, sink, settings.
	Fields []string `json:"fields,omitempty"`
	// Differences tell how.
	Differences []difference `json:"differences,omitempty"`
	// Parked is how many deliveries a removed subscription had parked, Dead how many of them were dead letters.
	Parked int64 `json:"parked,omitempty"`
	Dead   int64 `json:"dead,omitempty"`
	// StartedWith is a relay that runs and whose environment or file makes a removed subscription again.
	StartedWith string `json:"started_with,omitempty"`
}

// ApplyOptions say how specs are applied.
type ApplyOptions struct {
	Prune  bool   // remove what no spec names and has the same scope
	Scope  string // of what is applied and pruned; "": none
	Yes    bool   // also if that removes something
	DryRun bool   // change nothing
	// claimed is where subscriptions of the default name led when they were claimed.
	claimed map[string]string
}

// errRaced says that somebody else, such as another relay that was started at the same time, created the subscription first. What it has
// is to be looked at before it is changed.
var errRaced = errors.New("somebody else creates the same subscription at this moment")

// errDryRun undoes what a dry run has tried.
var errDryRun = errors.New("dry run")

// Apply brings the database's subscriptions to what the specs say, in one transaction: it creates, changes in place what
// differs, and leaves alone what does not, and (unless they are to be pruned) those that no spec names. The cursor and the state
// stay. A dry run does the same and rolls it back.
func Apply(ctx context.Context, db *dbconn.Conn, specs []subscription.Spec, how ApplyOptions) ([]Change, error) {
	specs = slices.Clone(specs)
	slices.SortFunc(specs, func(a, b subscription.Spec) int { return cmp.Compare(a.Name, b.Name) }) // rows are locked in this order
	for attempt := 1; ; attempt++ {
		var changes []Change
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
			if changes, err = applyAll(ctx, tx, specs, how); err == nil && how.Prune {
				err = prune(ctx, tx, specs, how, &changes)
			}
			if err == nil && how.DryRun {
				err = errDryRun
			}
			return err
		})
		if errors.Is(err, errDryRun) {
			return changes, nil
		}
		if errors.Is(err, errRaced) && attempt < 5 {
			continue
		}
		return changes, err
	}
}

func applyAll(ctx context.Context, tx pgx.Tx, specs []subscription.Spec, how ApplyOptions) ([]Change, error) {
	changes := make([]Change, 0, len(specs))
	for _, s := range specs {
		c, err := applyOne(ctx, tx, s, how.claimed)
		if err == nil {
			c.Differences, err = how.putScope(ctx, tx, "subscription", s.Name, &c.Action, c.Differences)
		}
		if err != nil {
			return nil, fmt.Errorf("subscription %q: %w", s.Name, err)
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// prune removes the subscriptions that no spec names, if that was confirmed.
func prune(ctx context.Context, tx pgx.Tx, specs []subscription.Spec, how ApplyOptions, changes *[]Change) error {
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.Name
	}
	rows, err := tx.Query(ctx, `SELECT s.name, (SELECT count(*) FROM postrider.parked p WHERE p.subscription = s.name),
			(SELECT count(*) FROM postrider.parked p WHERE p.subscription = s.name AND p.state = 'dead')
		FROM postrider.subscriptions s WHERE s.name <> ALL ($1) AND `+sameScope("subscription")+` ORDER BY s.name`, names, how.Scope)
	if err != nil {
		return err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Change, error) {
		c := Change{Action: "removed"}
		return c, row.Scan(&c.Name, &c.Parked, &c.Dead)
	})
	if err != nil || len(list) == 0 {
		return err
	}
	relays, err := ReadRelays(ctx, tx)
	if err != nil {
		return err
	}
	var removed, gone []string
	for _, c := range list {
		gone = append(gone, c.Name)
		c.StartedWith = StartedWith(relays, c.Name)
		*changes = append(*changes, c)
		removed = append(removed, fmt.Sprintf("%s (%s)", c.Name, c.loss()))
	}
	if !how.Yes && !how.DryRun {
		return errorf(Conflict, "prune would remove what is not named: %s. Nothing was changed: with yes it is done, a dry run shows all", strings.Join(removed, ", "))
	}
	_, err = tx.Exec(ctx, "SELECT postrider.unsubscribe(s.name) FROM postrider.subscriptions s WHERE s.name = ANY ($1)", gone)
	return err
}

func applyOne(ctx context.Context, tx pgx.Tx, s subscription.Spec, claimed map[string]string) (Change, error) {
	settings, err := json.Marshal(s.Settings)
	if err != nil {
		return Change{}, err
	}
	var topics []string
	var sink string
	var is []byte
	err = tx.QueryRow(ctx, "SELECT topics, sink, settings::text FROM postrider.subscriptions WHERE name = $1 FOR UPDATE", s.Name).Scan(&topics, &sink, &is)
	if errors.Is(err, pgx.ErrNoRows) {
		var became string
		err = tx.QueryRow(ctx, "SELECT postrider.subscribe($1, $2, $3, $4::jsonb, $5)", s.Name, s.Topics, s.Sink, string(settings), s.Start).Scan(&became)
		if err == nil && became != "created" {
			err = errRaced
		}
		return Change{Name: s.Name, Action: "created"}, err
	}
	if err != nil {
		return Change{}, err
	}
	if s.Unnamed && sink != claimed[s.Name] && leadsElsewhere(s, sink) {
		return Change{}, errUnclaimed
	}
	list := differences(s, topics, sink, is)
	if len(list) == 0 {
		return Change{Name: s.Name, Action: "unchanged"}, nil
	}
	if sameSet(s.Topics, topics) {
		s.Topics = topics // in another order they mean the same, and are no change
	}
	_, err = tx.Exec(ctx, "UPDATE postrider.subscriptions SET topics = $2, sink = $3, settings = $4::jsonb WHERE name = $1", s.Name, s.Topics, s.Sink, string(settings))
	return Change{Name: s.Name, Action: "changed", Fields: groups(list), Differences: list}, err
}

func sameSet(a, b []string) bool {
	normal := func(l []string) []string { return slices.Compact(slices.Sorted(slices.Values(l))) }
	return slices.Equal(normal(a), normal(b))
}

// Describe says what became of a subscription.
func (c Change) Describe() string {
	switch {
	case c.Action == "removed":
		return "removed, " + c.loss()
	case len(c.Fields) == 0:
		return c.Action
	}
	return c.Action + ": " + strings.Join(c.Fields, ", ")
}

// loss says what goes with a subscription that is removed.
func (c Change) loss() string {
	text := "with its cursor"
	if c.Parked > 0 {
		text += fmt.Sprintf(", %s parked and %s among them", human.Plural(c.Parked, "message"), human.Plural(c.Dead, "dead letter"))
	}
	if c.StartedWith != "" {
		text += fmt.Sprintf("; relay %s, which runs, was started with it and makes it again at its next start", c.StartedWith)
	}
	return text
}
