package migrations

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Segments is the length of the ring of outbox partitions.
const Segments = 16

// AppGrants returns the SQL that lets role enqueue messages, get their ids back, and nothing else.
func AppGrants(role string) string {
	return grants(role, `GRANT USAGE ON SCHEMA postrider TO %[1]s;
GRANT INSERT (topic, key, payload, body, headers, deliver_at, priority), SELECT (id) ON postrider.outbox TO %[1]s;
GRANT USAGE ON SEQUENCE postrider.outbox_id_seq TO %[1]s;
GRANT EXECUTE ON FUNCTION postrider.current_segment(),
    postrider.enqueue(text, jsonb, text, jsonb, timestamptz, integer),
    postrider.enqueue_bytes(text, bytea, text, jsonb, timestamptz, integer),
    postrider.enqueue_unique(text, jsonb, text, text, text, jsonb, timestamptz, integer, bytea, boolean),
    postrider.enqueue_many(text[], text[], jsonb[], bytea[], jsonb[], timestamptz[], smallint[], text[], text[], boolean[]) TO %[1]s;
`)
}

// RelayGrants returns the SQL that lets role run a relay that streams, and its commands. REPLICATION, which needs a superuser to
// grant (or rds_replication and the like), is for streaming only, and worth more than the rest.
func RelayGrants(role string) string {
	return fmt.Sprintf(`-- REPLICATION lets the stream read the outbox from the server's log, and there is no smaller privilege for that. With it the role can
-- also copy the whole cluster (as pg_basebackup does), read what is written to any published table, and hold back the server's WAL.
-- Without it the relay looks for messages on a timer: 'postrider grants --relay ROLE --no-stream'.
ALTER ROLE %s REPLICATION;
`, quote(role)) + TimerGrants(role)
}

// TimerGrants returns the SQL that lets role run a relay that does not stream, and its commands.
func TimerGrants(role string) string {
	leaves := make([]string, Segments)
	for i := range leaves {
		leaves[i] = fmt.Sprintf("postrider.outbox_%d", i)
	}
	return grants(role, `GRANT USAGE ON SCHEMA postrider TO %[1]s;
GRANT SELECT ON ALL TABLES IN SCHEMA postrider TO %[1]s;
GRANT SELECT ON SEQUENCE postrider.outbox_id_seq TO %[1]s;
GRANT INSERT, UPDATE, DELETE ON postrider.subscriptions, postrider.cursors, postrider.parked, postrider.relays, postrider.results, postrider.attempts, postrider.cancels TO %[1]s;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA postrider TO %[1]s;
GRANT TRUNCATE ON `+strings.Join(leaves, ", ")+` TO %[1]s;
`)
}

// WorkerGrants returns the SQL that lets role say what came of asynchronous deliveries, of any subscription, and nothing else.
func WorkerGrants(role string) string {
	return grants(role, `GRANT USAGE ON SCHEMA postrider TO %[1]s;
GRANT EXECUTE ON FUNCTION postrider.complete(text, bigint, bigint),
    postrider.complete(text, bigint, bigint, json),
    postrider.fail(text, bigint, bigint, text, interval, boolean),
    postrider.heartbeat(text, bigint, bigint, interval) TO %[1]s;
`)
}

// ReaderGrants returns the SQL that lets role see what came of messages, and nothing that they carry.
func ReaderGrants(role string) string {
	return grants(role, `GRANT USAGE ON SCHEMA postrider TO %[1]s;
GRANT EXECUTE ON FUNCTION postrider.deliveries_of(bigint, text) TO %[1]s;
`)
}

// SQLWorkerGrants returns the SQL that lets role take messages of one subscription in its own transactions, and nothing else.
func SQLWorkerGrants(role, subscription string) string {
	return fmt.Sprintf("SELECT postrider.grant_worker(%s, %s);\n", literal(role), literal(subscription))
}

func literal(text string) string {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

func grants(role, text string) string { return fmt.Sprintf(text, quote(role)) }

func quote(role string) string { return pgx.Identifier{role}.Sanitize() }
