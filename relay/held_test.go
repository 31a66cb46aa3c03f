package relay

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/maintain"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/store"
)

// heldEvent is what a message says that tells who keeps segments.
type heldEvent struct {
	Subscription, Reason string
	Count                int
	Holders              []map[string]any
}

// held makes messages of what was noted, and returns all of them, by topic.
func (r *ring) held() map[string][]heldEvent {
	r.t.Helper()
	r.Exec("SELECT postrider.tell_events('0')")
	rows, err := r.Admin.Query(r.t.Context(), `SELECT topic, payload FROM postrider.outbox WHERE event ORDER BY id`)
	mend(r.t, err)
	list := make(map[string][]heldEvent)
	var topic string
	var payload []byte
	_, err = pgx.ForEachRow(rows, []any{&topic, &payload}, func() error {
		var e heldEvent
		err := json.Unmarshal(payload, &e)
		list[topic] = append(list[topic], e)
		return err
	})
	mend(r.t, err)
	return list
}

// Whoever keeps segments past the retention is told to those who ask: sessions, prepared transactions, subscriptions that stand still; once,
// however many relays look, and not before it has lasted for a while.
func TestHoldersOfSegmentsAreTold(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	other := maintain.NewRetention(store.Segments{Pool: r.OnePool()}, r.keep, slog.New(slog.DiscardHandler), metrics.New(nil, nil))
	for _, name := range []string{"paused", "workers", "idle"} {
		sink := map[bool]string{true: "sql:", false: "stdout:"}[name == "workers"]
		r.Exec("SELECT postrider.subscribe($1, '{>}', $2, '{}')", name, sink)
	}
	for segment := 2; segment <= 5; segment++ {
		r.fill(segment, 2*time.Hour)
	}
	r.settle("idle")
	r.Exec("SELECT postrider.pause('paused', 'we are moving')")
	turn := func() {
		r.Turn(t.Context())
		other.Turn(t.Context())
	}
	r.Patience, other.Patience = 0, 0
	turn()
	if n := scalar[int](r.bench, "SELECT (SELECT count(*) FROM postrider.events) + (SELECT count(*) FROM postrider.retention_holders)"); n != 0 {
		t.Errorf("%d rows are written for nobody", n)
	}
	r.Exec("SELECT postrider.subscribe('alerts', '{$postrider.retention_held.>}', 'stdout:', '{}')")
	r.Patience, other.Patience = time.Hour, time.Hour
	turn()
	if got := r.held(); len(got) != 0 {
		t.Errorf("told before its time: %+v", got)
	}
	fresh := maintain.NewRetention(r.Segments, r.keep, slog.New(slog.DiscardHandler), metrics.New(nil, nil))
	r.Retention, fresh.Patience, other.Patience = fresh, 0, 0
	turn()
	turn()
	got := r.held()
	if len(got) != 2 {
		t.Errorf("told: %+v", got)
	}
	for name, why := range map[string]string{"paused": "we are moving", "workers": "it has not come that far"} {
		list := got["$postrider.retention_held."+name]
		if len(list) != 1 || list[0].Subscription != name || list[0].Count != 1 || list[0].Reason != why || list[0].Holders[0]["segments"] != 4.0 {
			t.Errorf("told of %s: %+v", name, list)
		}
	}
	r.Exec("SELECT postrider.unsubscribe('paused'), postrider.unsubscribe('workers')")
	r.settle()
	session := r.DB.Conn(t)
	for _, sql := range []string{"SET application_name = 'the_reader'", "BEGIN", "SELECT FROM postrider.outbox_2"} {
		_, err := session.Exec(t.Context(), sql)
		mend(t, err)
	}
	prepared := r.DB.Conn(t)
	for _, sql := range []string{"BEGIN", "SELECT FROM postrider.outbox_3", "PREPARE TRANSACTION 'forgotten'"} {
		_, err := prepared.Exec(t.Context(), sql)
		mend(t, err)
	}
	turn()
	turn()
	got = r.held()
	locks := got["$postrider.retention_held._locks"]
	if len(locks) != 1 || locks[0].Count != 2 || locks[0].Subscription != "" || len(locks[0].Holders) != 2 {
		t.Fatalf("told: %+v", got)
	}
	slices.SortFunc(locks[0].Holders, func(a, b map[string]any) int { return strings.Compare(text(a["application"]), text(b["application"])) })
	if h := locks[0].Holders[0]; h["prepared_transaction"] != "forgotten" || h["segments"] != 1.0 || h["since"] == nil {
		t.Errorf("told of the prepared transaction: %+v", h)
	}
	if h := locks[0].Holders[1]; h["application"] != "the_reader" || h["state"] != "idle in transaction" || h["pid"] == nil || h["since"] == nil {
		t.Errorf("told of the session: %+v", h)
	}
	// It is forgotten when it is over.
	_, err := session.Exec(t.Context(), "ROLLBACK")
	mend(t, err)
	_, err = prepared.Exec(t.Context(), "ROLLBACK PREPARED 'forgotten'")
	mend(t, err)
	turn()
	r.Exec("UPDATE postrider.retention_holders SET seen_at = seen_at - interval '16 minutes'")
	r.Exec("SELECT postrider.note_holders('{}', '{}', '{}', '{}', '{}')")
	if n := scalar[int](r.bench, "SELECT count(*) FROM postrider.retention_holders"); n != 0 || r.rows(2)+r.rows(3)+r.rows(4)+r.rows(5) != 0 {
		t.Errorf("%d holders are remembered", n)
	}
	if again := r.held(); len(again["$postrider.retention_held._locks"]) != 1 {
		t.Errorf("told: %+v", again)
	}
}

func text(v any) string {
	s, _ := v.(string)
	return s
}
