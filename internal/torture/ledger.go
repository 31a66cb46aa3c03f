package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/hooktest"
)

// Subscriptions whose messages producers do not number: what they are to get is what the log held.
const (
	alerts  = "alerts"  // operator's events
	ticks   = "ticks"   // schedules
	effects = "effects" // messages with unique keys
)

// logRow is a message that the log held.
type logRow struct {
	N         int64     // ascends in the order of insertion, as far as there is one
	At        time.Time // of its insertion
	XID       int64
	Row       int64 // its id there
	Created   time.Time
	Topic     string
	Key       string
	Payload   []byte
	Schedule  string
	Planned   time.Time // of a schedule's message: the time that was meant
	messageID int64
}

// rowID stands for the number that a message would have from a producer. Row ids may come again on another server.
func rowID(row, micros int64) int64 { return -(row*1_000_000 + micros%1_000_000) }

// wireID is rowID by the message's id on the wire: source, row and creation.
func wireID(wire string) (int64, error) {
	parts := strings.Split(wire, "-")
	if len(parts) < 3 {
		return 0, fmt.Errorf("message id %q has no row and creation", wire)
	}
	row, err := strconv.ParseInt(parts[len(parts)-2], 10, 64)
	if err != nil {
		return 0, err
	}
	micros, err := strconv.ParseInt(parts[len(parts)-1], 10, 64)
	return rowID(row, micros), err
}

// identify returns which message arrived at an endpoint, and whether a producer has numbered it in the usual course.
func identify(a hooktest.Arrival) (id int64, numbered bool, err error) {
	switch a.Path {
	case "/" + alerts, "/" + ticks:
		id, err = wireID(a.Header.Get("Webhook-Id"))
		return id, false, err
	}
	p, err := parsePayload(a.Body)
	return p.ID, a.Path != "/"+effects, err
}

// ledgerSchema keeps what the checker judges by of schedules, unique keys, results, events and operations, for longer than Postrider does, in the
// transactions in which it happens.
const ledgerSchema = `
CREATE TABLE torture.log (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	id bigint, created_at timestamptz, topic text, key text, payload jsonb, headers jsonb);
CREATE TABLE torture.steps (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), schedule text, what text, cron text, missed text, planned_from timestamptz, message bigint);
CREATE TABLE torture.happened (kind text, subject text, part text, own boolean);
CREATE TABLE torture.results (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), subscription text, id bigint, created_at timestamptz, result jsonb);
CREATE TABLE torture.accepted (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), subscription text, id bigint, created_at timestamptz, attempt integer);
CREATE TABLE torture.chunks (operation bigint, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), changed bigint);
CREATE TABLE torture.meant (operation bigint, id bigint, created_at timestamptz, message bigint);
CREATE TABLE torture.revived (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), at timestamptz NOT NULL DEFAULT clock_timestamp(), subscription text, id bigint, created_at timestamptz,
	state text, died timestamptz, topic text, key text, reason text);
CREATE TABLE torture.unwanted (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), subscription text, id bigint, created_at timestamptz, reason text);
CREATE INDEX ON torture.revived (id); CREATE INDEX ON torture.unwanted (id); CREATE INDEX ON torture.accepted (id);

CREATE FUNCTION torture.keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	CASE TG_TABLE_NAME
	WHEN 'subscriptions' THEN
		INSERT INTO torture.happened (kind, subject) VALUES (CASE NEW.state WHEN 'paused' THEN 'paused' ELSE 'resumed' END, NEW.name);
	WHEN 'cursors' THEN
		INSERT INTO torture.happened VALUES (CASE WHEN NEW.down THEN 'down' ELSE 'up' END, NEW.subscription, concat(NEW.shard, '/', NEW.class));
	WHEN 'operations' THEN
		INSERT INTO torture.chunks (operation, changed) VALUES (NEW.id, NEW.changed - OLD.changed);
	WHEN 'cancels' THEN
		INSERT INTO torture.unwanted (subscription, id, created_at, reason) VALUES (NEW.subscription, NEW.id, NEW.created_at, NEW.reason);
	WHEN 'parked' THEN
		IF NEW.state = 'dead' THEN
			INSERT INTO torture.happened VALUES ('dead', NEW.subscription, NULL, NEW.topic LIKE '$%');
		ELSE
			INSERT INTO torture.revived (subscription, id, created_at, state, died, topic, key, reason)
			VALUES (NEW.subscription, NEW.id, NEW.created_at, NEW.state, OLD.updated_at, NEW.topic, NEW.key, OLD.reason);
		END IF;
	ELSE
		IF TG_TABLE_NAME LIKE 'results_%' THEN
			INSERT INTO torture.results (subscription, id, created_at, result) VALUES (NEW.subscription, NEW.id, NEW.created_at, NEW.result);
		ELSIF TG_TABLE_NAME LIKE 'attempts_%' THEN
			INSERT INTO torture.accepted (subscription, id, created_at, attempt) VALUES (NEW.subscription, NEW.id, NEW.created_at, NEW.attempt);
		ELSE
			IF NEW.topic::text LIKE 'tick.%' THEN
				PERFORM pg_sleep(0.03 * random()); -- others look at the same schedule meanwhile, or it is killed in the middle
			END IF;
			INSERT INTO torture.log (id, created_at, topic, key, payload, headers) VALUES (NEW.id, NEW.created_at, NEW.topic, NEW.key, NEW.payload, NEW.headers);
		END IF;
	END CASE;
	RETURN NULL;
END $$;
CREATE TRIGGER torture AFTER INSERT ON postrider.outbox FOR EACH ROW
	WHEN (NEW.topic::text LIKE '$postrider.%' OR NEW.topic::text LIKE 'tick.%' OR NEW.topic::text LIKE 'effect.%') EXECUTE FUNCTION torture.keep();
CREATE TRIGGER torture AFTER UPDATE ON postrider.subscriptions FOR EACH ROW WHEN (NEW.state <> OLD.state) EXECUTE FUNCTION torture.keep();
CREATE TRIGGER torture AFTER UPDATE ON postrider.cursors FOR EACH ROW WHEN (NEW.down <> OLD.down) EXECUTE FUNCTION torture.keep();
CREATE TRIGGER torture AFTER UPDATE ON postrider.operations FOR EACH ROW WHEN (NEW.changed <> OLD.changed) EXECUTE FUNCTION torture.keep();
CREATE TRIGGER torture AFTER INSERT OR UPDATE ON postrider.cancels FOR EACH ROW EXECUTE FUNCTION torture.keep();
CREATE TRIGGER torture_died AFTER INSERT ON postrider.parked FOR EACH ROW WHEN (NEW.state = 'dead') EXECUTE FUNCTION torture.keep();
CREATE TRIGGER torture_dies AFTER UPDATE ON postrider.parked FOR EACH ROW WHEN ((NEW.state = 'dead') <> (OLD.state = 'dead')) EXECUTE FUNCTION torture.keep();
CREATE TRIGGER torture AFTER INSERT ON postrider.results FOR EACH ROW EXECUTE FUNCTION torture.keep();
-- A save whose answer got lost is repeated, and writes what is there already.
CREATE TRIGGER torture_again AFTER UPDATE ON postrider.results FOR EACH ROW WHEN (NEW.result::text <> OLD.result::text) EXECUTE FUNCTION torture.keep();
CREATE TRIGGER torture AFTER INSERT ON postrider.attempts FOR EACH ROW WHEN (NEW.outcome = 'accepted') EXECUTE FUNCTION torture.keep();
`

// keepLedger starts the ledger, if the round needs it.
func (w *world) keepLedger(ctx context.Context) error {
	if !w.hasJobs() {
		return nil
	}
	_, err := w.db.admin.Exec(ctx, ledgerSchema)
	w.db.hasLedger = err == nil
	return err
}

// loadLog tells the truth what the log held for the subscriptions that are judged by it.
func (w *world) loadLog(ctx context.Context, t *truth) error {
	if !w.db.hasLedger {
		return nil
	}
	err := poll(ctx, time.Minute, func() error {
		rows, err := w.db.admin.Query(ctx, `SELECT n, at, xid::text::bigint, id, created_at, topic, coalesce(key, ''), payload::text, coalesce(headers->>'schedule', ''),
			(headers->>'planned')::timestamptz FROM torture.log ORDER BY n`)
		if err == nil {
			t.log, err = pgx.CollectRows(rows, toLogRow)
		}
		return err
	})
	for i, r := range t.log {
		m := Message{ID: rowID(r.Row, r.Created.UnixMicro()), Topic: r.Topic, Key: r.Key}
		if p, err := parsePayload(r.Payload); err == nil && strings.HasPrefix(r.Topic, "effect.") {
			m.ID = p.ID
		}
		if m.Key != "" {
			m.Order = r.N // of those that producers number it is as good as theirs
		}
		m.Poison = strings.HasPrefix(r.Topic, "$") && disliked(r.Payload)
		t.log[i].messageID = m.ID
		t.messages[m.ID], t.ended[m.ID] = m, r.At
	}
	return err
}

func toLogRow(row pgx.CollectableRow) (r logRow, err error) {
	var planned *time.Time
	err = row.Scan(&r.N, &r.At, &r.XID, &r.Row, &r.Created, &r.Topic, &r.Key, &r.Payload, &r.Schedule, &planned)
	if planned != nil {
		r.Planned = *planned
	}
	return r, err
}

// hasJobs reports whether there is a fault for what stands around jobs: schedules and operations. Events, unique keys and priorities are judged with them.
func (c *Config) hasJobs() bool {
	return slices.ContainsFunc(c.chosen(), func(f *Fault) bool { return f.Hits == onSchedules || f.Hits == onOperations || f.Hits == onPriorities })
}

// loadLedger tells the truth all the rest that it is judged by.
func (w *world) loadLedger(ctx context.Context, t *truth) error {
	if !w.db.hasLedger {
		return nil
	}
	err := errors.Join(w.loadSteps(ctx, t), w.loadResults(ctx, t), w.loadEvents(ctx, t))
	return errors.Join(err, poll(ctx, time.Minute, func() error {
		rows, err := w.db.admin.Query(ctx, sparedByOperations)
		if err == nil {
			t.spared, err = pgx.CollectRows(rows, pgx.RowToStructByPos[spared])
		}
		return err
	}))
}
