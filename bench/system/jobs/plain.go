package jobs

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/system"
)

// plain is a table of jobs, as many write one: workers lock what nobody else has locked, and delete it.
type plain struct{ options Options }

var (
	_ system.System = (*plain)(nil)
	_ system.Tables = (*plain)(nil)
)

// NewPlain returns a plain table.
func NewPlain(o Options) system.System {
	o.Kind = "plain"
	return &plain{o}
}

func (*plain) Name() string                        { return "plain table, SKIP LOCKED" }
func (*plain) Supports(to system.Destination) bool { return to == system.Destination{} }
func (*plain) Tables() []string                    { return []string{"public.jobs"} }

func (*plain) Install(ctx context.Context, p system.Place) error {
	return exec(ctx, p, effects+`; CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL)`)
}

func (*plain) Enqueue(ctx context.Context, tx pgx.Tx, messages []system.Message) error {
	for _, m := range messages {
		if _, err := tx.Exec(ctx, "INSERT INTO jobs (payload) VALUES ($1)", string(m.Payload())); err != nil {
			return err
		}
	}
	return nil
}

func (*plain) Fill(ctx context.Context, conn *pgx.Conn, n int) error {
	_, err := conn.Exec(ctx, `INSERT INTO jobs (payload)
		SELECT jsonb_build_object('n', i, 'pad', repeat('x', $2 - 15 - length(i::text))) FROM generate_series(1::bigint, $1) i`, n, system.PayloadBytes)
	if err == nil {
		_, err = conn.Exec(ctx, "ANALYZE jobs")
	}
	return err
}

func (t *plain) Start(ctx context.Context, p system.Place) (system.Process, error) {
	return t.options.start(ctx, "worker of a plain table", p, "")
}

// EmptyPoll is what a worker asks in vain.
func (t *plain) EmptyPoll() string {
	return strings.ReplaceAll(takePlain, "$1", strconv.Itoa(t.options.Batch))
}

// takePlain deletes some jobs and returns them, in the worker's transaction.
const takePlain = `DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM jobs ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING id, payload`
