package torture

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// operationRules are queries that find what no operation may have done, or have left undone.
var operationRules = map[string]string{
	"has not ended, or failed": `SELECT id || ' ' || state || coalesce(': ' || trouble, '') FROM postrider.operations WHERE finished_at IS NULL OR state = 'failed'`,
	"expected another number of messages": `SELECT o.id || ' expected ' || o.expected || ' and meant ' || count(m.id) FROM postrider.operations o LEFT JOIN torture.meant m ON m.operation = o.id
		WHERE o.kind <> 'cancel' GROUP BY o.id HAVING count(m.id) <> o.expected`,
	"says that it has changed another number of messages": `SELECT o.id || ' says ' || o.changed || ' and has changed ' || c.n FROM postrider.operations o, LATERAL (
			SELECT (SELECT count(*) FROM torture.revived r WHERE o.kind <> 'cancel' AND r.xid IN (SELECT c.xid FROM torture.chunks c WHERE c.operation = o.id))
				+ (SELECT count(*) FROM torture.unwanted u WHERE o.kind = 'cancel' AND u.xid IN (SELECT c.xid FROM torture.chunks c WHERE c.operation = o.id)) AS n) c
		WHERE c.n <> o.changed OR o.changed <> (SELECT coalesce(sum(c.changed), 0) FROM torture.chunks c WHERE c.operation = o.id)`,
	"has changed what it does not mean": `SELECT o.id || ' ' || o.kind || ' row ' || p.id FROM postrider.operations o JOIN torture.chunks c ON c.operation = o.id JOIN torture.revived p ON p.xid = c.xid
		WHERE NOT (p.subscription = o.subscription AND p.died <= o.asked_at AND p.state = CASE o.kind WHEN 'redrive' THEN 'retrying' ELSE 'discarded' END AND` + operationMatches + `)`,
	"has asked to cancel what it does not mean": `SELECT o.id || ' row ' || u.id FROM postrider.operations o JOIN torture.chunks c ON c.operation = o.id JOIN torture.unwanted u ON u.xid = c.xid
		WHERE o.kind <> 'cancel' OR u.subscription <> o.subscription OR u.created_at > o.asked_at OR NOT EXISTS (SELECT FROM torture.meant m WHERE m.operation = o.id AND m.id = u.id AND m.created_at = u.created_at)`,
	"has left alone what it means": `SELECT o.id || ' ' || o.kind || ' row ' || m.id FROM postrider.operations o JOIN torture.meant m ON m.operation = o.id
		WHERE o.state = 'done' AND o.kind <> 'cancel' AND NOT EXISTS (SELECT FROM torture.revived r
			WHERE r.subscription = o.subscription AND r.id = m.id AND r.created_at = m.created_at AND r.at > o.asked_at - interval '5 s' AND r.at <= o.finished_at)`,
}

// checkOperations waits until operations have ended, and judges what they did.
func (w *world) checkOperations(ctx context.Context) {
	if !w.db.hasLedger {
		return
	}
	w.fail(poll(ctx, settleTime, func() error {
		n, err := one[int](ctx, w.db, "SELECT count(*)::int FROM postrider.operations WHERE finished_at IS NULL")
		if err == nil && n > 0 {
			err = fmt.Errorf("%d operations have not ended", n)
		}
		return err
	}))
	for rule, sql := range operationRules {
		wrong, err := ask[string](ctx, w.db, sql)
		if err == nil && len(wrong) > 0 {
			err = fmt.Errorf("operation %s: %s", rule, strings.Join(wrong[:min(len(wrong), 10)], "; "))
		}
		w.fail(err)
	}
}

// spared is a message that an operation was to cancel, and did not.
type spared struct {
	Subscription string
	Message      int64
	Operation    int64
	Ended        time.Time
}

// sparedByOperations finds messages that operations have left alone: they must have been on their way by then.
const sparedByOperations = `SELECT o.subscription, m.message, o.id, o.finished_at FROM postrider.operations o JOIN torture.meant m ON m.operation = o.id
	WHERE o.kind = 'cancel' AND o.state = 'done' AND m.message IS NOT NULL
	  AND NOT EXISTS (SELECT FROM torture.unwanted u WHERE u.subscription = o.subscription AND u.id = m.id AND u.created_at = m.created_at)`

// judgeSpared finds messages that came only after the operation that was to cancel them.
func (t *truth) judgeSpared(subscription string, arrivals []Arrival) (violations []string) {
	offered, _ := seen(arrivals)
	for _, s := range t.spared {
		if at, came := offered[s.Message]; s.Subscription == subscription && came && at.After(s.Ended) {
			violations = append(violations, fmt.Sprintf("%s: message %s came at %s, and operation %d, which was to cancel it, had ended at %s without having asked for it",
				subscription, idString(s.Message), clock(at), s.Operation, clock(s.Ended)))
		}
	}
	return violations
}
