package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Holder is a session, or a prepared transaction, that has a lock on a segment.
type Holder struct {
	PID         *int32     `json:"pid,omitempty"`
	GID         *string    `json:"prepared_transaction,omitempty"`
	Role        *string    `json:"role,omitempty"`
	Application *string    `json:"application,omitempty"`
	State       *string    `json:"state,omitempty"`
	Since       *time.Time `json:"since,omitempty"`
}

// String says who it is.
func (h Holder) String() string {
	text := "somebody"
	switch {
	case h.GID != nil:
		text = fmt.Sprintf("the prepared transaction %q", *h.GID)
	case h.PID != nil:
		text = fmt.Sprintf("process %d", *h.PID)
	}
	if h.Role != nil {
		text += fmt.Sprintf(" of role %q", *h.Role)
	}
	text += " has locks on it"
	if h.Since != nil {
		text += " since " + h.Since.UTC().Format(time.RFC3339)
	}
	return text
}

// Holders returns who has locks on a segment.
func (s Segments) Holders(ctx context.Context, segment int) ([]Holder, error) {
	rows, err := s.Pool.Query(ctx, "SELECT pid, gid, role, application, state, since FROM postrider.lock_holders($1)", fmt.Sprintf("outbox_%d", segment))
	if err != nil {
		return nil, fmt.Errorf("read who holds a segment: %w", err)
	}
	holders, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Holder])
	if err != nil {
		return nil, fmt.Errorf("read who holds a segment: %w", err)
	}
	return holders, nil
}

// Needer is a subscription that has not settled all of a segment.
type Needer struct {
	Subscription string `json:"subscription"`
	State        string `json:"state"`
	Reason       string `json:"reason,omitempty"`
}

// NeededBy returns which subscriptions have not settled all of a segment.
func (s Segments) NeededBy(ctx context.Context, segment int) ([]Needer, error) {
	rows, err := s.Pool.Query(ctx, "SELECT subscription, state, coalesce(reason, CASE state WHEN 'paused' THEN 'it is paused' ELSE 'it has not come that far' END) FROM postrider.segment_needed_by($1::smallint)", segment)
	if err != nil {
		return nil, fmt.Errorf("read who needs a segment: %w", err)
	}
	needers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Needer])
	if err != nil {
		return nil, fmt.Errorf("read who needs a segment: %w", err)
	}
	return needers, nil
}

// Held is who keeps how many segments from being emptied.
type Held struct {
	Holder, Subject, Reason string
	Segments                int
	About                   any // as JSON, what is known of it
}

// NoteHolders notes for operators who keeps segments from being emptied. It commits as the server is set to.
func (s Segments) NoteHolders(ctx context.Context, list []Held) error {
	var (
		holders, subjects, reasons, details []string
		segments                            []int
		encoding                            = s.Pool.Encoding()
	)
	for _, h := range list {
		about, err := json.Marshal(h.About)
		if err != nil {
			return fmt.Errorf("note who holds segments: %w", err)
		}
		holders, subjects, reasons = append(holders, encoding.Storable(h.Holder)), append(subjects, h.Subject), append(reasons, encoding.Storable(h.Reason))
		details, segments = append(details, encoding.Storable(string(about))), append(segments, h.Segments)
	}
	_, err := s.Pool.Exec(ctx, `SELECT postrider.note_holders($1, $2, $3, $4, ARRAY(
		SELECT d::jsonb || jsonb_build_object('segments', n) FROM unnest($5::text[], $4::int[]) WITH ORDINALITY u (d, n, i) ORDER BY i))`, holders, subjects, reasons, segments, details)
	if err != nil {
		return fmt.Errorf("note who holds segments: %w", err)
	}
	return nil
}
