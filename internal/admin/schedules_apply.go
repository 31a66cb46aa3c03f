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
	"github.com/postrider/postrider/relay/schedule"
)

// ScheduleChange is what became of one schedule.
type ScheduleChange struct {
	Name string `json:"name"`
	// Action is created, changed, unchanged or removed.
	Action string `json:"action"`
	// Differences tell how it changed.
	Differences []difference `json:"differences,omitempty"`
}

// ApplySchedules brings the database's schedules to what the specs say, in one transaction: it creates, changes what differs, and leaves
// alone what no spec names, unless that is to be pruned. Pauses stay. A dry run does the same and rolls it back.
func ApplySchedules(ctx context.Context, db *dbconn.Conn, specs []schedule.Spec, how ApplyOptions) (changes []ScheduleChange, err error) {
	specs = slices.Clone(specs)
	slices.SortFunc(specs, func(a, b schedule.Spec) int { return cmp.Compare(a.Name, b.Name) }) // rows are locked in this order
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		changes = make([]ScheduleChange, 0, len(specs))
		there, err := Schedules(ctx, tx)
		if err != nil {
			return err
		}
		have := make(map[string]Schedule, len(there))
		for _, s := range there {
			have[s.Name] = s
		}
		for _, s := range specs {
			c, err := applySchedule(ctx, tx, s, have)
			if err == nil {
				c.Differences, err = how.putScope(ctx, tx, "schedule", s.Name, &c.Action, c.Differences)
			}
			if err != nil {
				return fmt.Errorf("schedule %q: %w", s.Name, err)
			}
			changes = append(changes, c)
			delete(have, s.Name)
		}
		if how.Prune {
			if err := pruneSchedules(ctx, tx, there, have, how, &changes); err != nil {
				return err
			}
		}
		if how.DryRun {
			return errDryRun
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return changes, err
}

func applySchedule(ctx context.Context, tx pgx.Tx, s schedule.Spec, have map[string]Schedule) (ScheduleChange, error) {
	c := ScheduleChange{Name: s.Name}
	if is, ok := have[s.Name]; ok {
		c.Differences = scheduleDifferences(is, s)
	}
	var headers *string
	if s.Headers != nil {
		text, err := json.Marshal(s.Headers)
		if err != nil {
			return c, err
		}
		headers = new(string(text))
	}
	return c, tx.QueryRow(ctx, "SELECT postrider.put_schedule($1, $2, $3, $4::text::jsonb, $5, $6::text::jsonb, $7, $8, $9::integer)",
		s.Name, s.Cron, s.Topic, string(s.Payload), s.Key, headers, s.Zone, s.Missed, s.Priority).Scan(&c.Action)
}

// pruneSchedules removes what is there, has the same scope and is named by no spec, if that was confirmed.
func pruneSchedules(ctx context.Context, tx pgx.Tx, there []Schedule, unnamed map[string]Schedule, how ApplyOptions, changes *[]ScheduleChange) error {
	var names []string
	for _, s := range there {
		if _, ok := unnamed[s.Name]; ok {
			names = append(names, s.Name)
		}
	}
	names, err := how.inScope(ctx, tx, names)
	if err != nil || len(names) == 0 {
		return err
	}
	if !how.Yes && !how.DryRun {
		return errorf(Conflict, "prune would remove what is not named: %s. Nothing was changed: with yes it is done, a dry run shows all", strings.Join(names, ", "))
	}
	for _, name := range names {
		if _, err := tx.Exec(ctx, "SELECT postrider.remove_schedule($1)", name); err != nil {
			return err
		}
		*changes = append(*changes, ScheduleChange{Name: name, Action: "removed"})
	}
	return nil
}

// scheduleDifferences compares a schedule with a spec, field by field.
func scheduleDifferences(is Schedule, want schedule.Spec) (list []difference) {
	key := func(k *string) string {
		if k == nil {
			return "nothing"
		}
		return fmt.Sprintf("%q", *k)
	}
	headers, _ := json.Marshal(want.Headers)
	for _, d := range []difference{
		{"cron", is.Cron, want.Cron}, {"zone", is.Zone, want.Zone}, {"topic", is.Topic, want.Topic}, {"key", key(is.Key), key(want.Key)},
		{"payload", normal(is.Payload), normal(want.Payload)}, {"headers", normal(is.Headers), normal(headers)},
		{"priority", fmt.Sprint(is.Priority), fmt.Sprint(want.Priority)}, {"missed", is.Missed, want.Missed},
	} {
		if d.From != d.To {
			list = append(list, d)
		}
	}
	return list
}
