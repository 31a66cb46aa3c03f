package torture

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// auditSchema makes the database itself take down who writes to cursors, parked rows and the register of relays, and what was
// true in that moment. Rows of one subscription are numbered under the lock of its cursor: their order is the order of history.
const auditSchema = `
CREATE TABLE torture.audit (
	n bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
	writer text NOT NULL DEFAULT current_setting('application_name'),
	what text NOT NULL, op text NOT NULL, subscription text, incarnation text,
	old_epoch bigint, epoch bigint, old_owner text, owner text, owner_name text, old_owner_registered boolean,
	old_base pg_snapshot, base pg_snapshot, moved boolean, id bigint, counter bigint
);
CREATE FUNCTION torture.audit_cursor() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO torture.audit (what, op, subscription, old_epoch, epoch, old_owner, owner, owner_name, old_owner_registered, old_base, base, moved)
	VALUES ('cursor', TG_OP, NEW.subscription, OLD.epoch, NEW.epoch, OLD.owner, NEW.owner,
		(SELECT name FROM postrider.relays WHERE incarnation = NEW.owner),
		EXISTS (SELECT FROM postrider.relays WHERE incarnation = OLD.owner), OLD.base, NEW.base,
		(OLD.base::text, OLD.target::text, OLD.after_id, OLD.done) IS DISTINCT FROM (NEW.base::text, NEW.target::text, NEW.after_id, NEW.done));
	RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON postrider.cursors FOR EACH ROW EXECUTE FUNCTION torture.audit_cursor();
CREATE FUNCTION torture.audit_parked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	p postrider.parked := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
BEGIN
	INSERT INTO torture.audit (what, op, subscription, id, epoch, owner, owner_name)
	SELECT 'parked', TG_OP, p.subscription, p.id, c.epoch, c.owner, r.name
	FROM postrider.cursors c LEFT JOIN postrider.relays r ON r.incarnation = c.owner WHERE c.subscription = p.subscription;
	RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON postrider.parked FOR EACH ROW EXECUTE FUNCTION torture.audit_parked();
CREATE FUNCTION torture.audit_relay() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	r postrider.relays := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
BEGIN
	INSERT INTO torture.audit (what, op, incarnation, owner_name, counter) VALUES ('relay', TG_OP, r.incarnation, r.name, r.counter);
	RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON postrider.relays FOR EACH ROW EXECUTE FUNCTION torture.audit_relay();
`

// rename gives a relay that does not run the name of its next life, in the register and on its connections.
func rename(r *relay, life int) string {
	name := fmt.Sprintf("%s-%d", r.name, life)
	for i, v := range r.env {
		if url, ok := strings.CutPrefix(v, "POSTRIDER_DATABASE_URL="); ok {
			url, _, _ = strings.Cut(url, "&application_name=")
			r.env[i] = "POSTRIDER_DATABASE_URL=" + url + "&application_name=" + name
		}
	}
	r.env = append(r.env, "POSTRIDER_NAME="+name)
	return name
}

// checkAudit looks for what must never happen, in all that was taken down.
func (w *world) checkAudit(t *testing.T) {
	t.Helper()
	for what, where := range map[string]string{
		// A save changes progress and nothing else, and it is the owner's: a connection's name is the name of its relay's life.
		"cursors advanced by a relay that did not own them": `what = 'cursor' AND moved AND
			(owner_name IS DISTINCT FROM writer OR owner IS DISTINCT FROM old_owner OR epoch <> old_epoch)`,
		"cursors that went back":                                     `what = 'cursor' AND NOT postrider.snapshot_covers(base, old_base)`,
		"epochs that went back or leapt":                             `what = 'cursor' AND epoch NOT IN (old_epoch, old_epoch + 1)`,
		"owners that changed without a new epoch":                    `what = 'cursor' AND owner IS NOT NULL AND owner IS DISTINCT FROM old_owner AND epoch = old_epoch`,
		"cursors taken for somebody else":                            `what = 'cursor' AND epoch > old_epoch AND owner_name IS DISTINCT FROM writer`,
		"cursors taken from a relay that was registered":             `what = 'cursor' AND owner IS NOT NULL AND owner IS DISTINCT FROM old_owner AND old_owner_registered`,
		"parked rows written by a relay that did not own the cursor": `what = 'parked' AND owner_name IS DISTINCT FROM writer`,
		"relays declared dead before their lease had ended": fmt.Sprintf(`what = 'relay' AND op = 'DELETE' AND owner_name <> writer
			AND at - (SELECT max(b.at) FROM torture.audit b WHERE b.what = 'relay' AND b.incarnation = audit.incarnation AND b.n < audit.n)
				< interval '%d ms'`, lease.Milliseconds()),
	} {
		w.nothing(t, what, "SELECT to_jsonb(audit)::text FROM torture.audit WHERE "+where+" ORDER BY n")
	}
	w.say("audited: %s", value[string](t, w, `SELECT count(*) FILTER (WHERE moved) || ' saves, ' || count(*) FILTER (WHERE epoch > old_epoch) || ' takeovers, '
		|| count(*) FILTER (WHERE what = 'parked') || ' changes of parked rows' FROM torture.audit`))
}

// takeovers returns when each of the subscriptions got a new owner after the audit's row n, and fails unless all did in time.
func (w *world) takeovers(t *testing.T, n int64, names []string, within time.Duration) map[string]time.Time {
	t.Helper()
	times := make(map[string]time.Time)
	eventually(t, within, func() error {
		for _, name := range names {
			at, err := ask[time.Time](t.Context(), w.db, `SELECT min(at) FROM torture.audit
				WHERE what = 'cursor' AND subscription = $1 AND n > $2 AND epoch > old_epoch HAVING count(*) > 0`, name, n)
			if err != nil {
				return err
			}
			if len(at) == 0 {
				return fmt.Errorf("nobody has taken over %s", name)
			}
			times[name] = at[0]
		}
		return nil
	})
	return times
}
