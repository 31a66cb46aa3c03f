package doctor

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/human"
)

// abandonedAfter is how long a subscription may stand still before it counts as abandoned.
const abandonedAfter = time.Hour

// checkTransactions finds open transactions that have written: their own messages wait for them, and the stream's WAL too.
func (d *examination) checkTransactions(ctx context.Context) error {
	var sees bool
	if err := d.db.QueryRow(ctx, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')").Scan(&sees); err != nil {
		return err
	}
	if !sees {
		d.report("transactions", StatusNote, "this role may not see the sessions of others, so old open transactions cannot be found",
			fmt.Sprintf("GRANT pg_read_all_stats TO %s;", quoteName(d.role)))
		return nil
	}
	rows, err := d.db.Query(ctx, `
		SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), extract(epoch FROM clock_timestamp() - xact_start)::float8
		FROM pg_stat_activity
		WHERE datname = current_database() AND backend_xid IS NOT NULL AND xact_start < clock_timestamp() - $1::bigint * interval '1 second' ORDER BY xact_start`,
		int64(d.OldTransaction.Seconds()))
	if err != nil {
		return err
	}
	var pid int
	var role, application string
	var age float64
	n := len(d.findings)
	_, err = pgx.ForEachRow(rows, []any{&pid, &role, &application, &age}, func() error {
		d.report("transactions", StatusWarn, fmt.Sprintf("process %d (role %q, application %q) has had a transaction open for %s: it holds back WAL, and the segments it wrote to",
			pid, role, application, human.Duration(human.Seconds(age))), fmt.Sprintf("SELECT pg_terminate_backend(%d);", pid))
		return nil
	})
	if err == nil && len(d.findings) == n {
		d.report("transactions", StatusOK, "no writing transaction is older than "+human.Duration(d.OldTransaction))
	}
	return err
}

// checkPrepared finds transactions that were prepared for a two-phase commit and forgotten.
func (d *examination) checkPrepared(ctx context.Context) error {
	rows, err := d.db.Query(ctx, `
		SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts
		WHERE database = current_database() AND prepared < clock_timestamp() - $1::bigint * interval '1 second' ORDER BY prepared`,
		int64(d.OldTransaction.Seconds()))
	if err != nil {
		return err
	}
	var gid string
	var age float64
	_, err = pgx.ForEachRow(rows, []any{&gid, &age}, func() error {
		d.report("prepared", StatusWarn, fmt.Sprintf("the transaction %q was prepared %s ago and never ended: it holds back WAL and vacuum", gid, human.Duration(human.Seconds(age))),
			fmt.Sprintf("COMMIT PREPARED %s;  -- or ROLLBACK PREPARED", quoteText(gid)))
		return nil
	})
	return err
}

func (d *examination) checkRelays(ctx context.Context) error {
	var now time.Time
	if err := d.db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return err
	}
	relays, err := admin.ReadRelays(ctx, d.db)
	if err != nil {
		return err
	}
	title, alive := admin.Titles(relays), 0
	for _, r := range relays {
		what := ""
		switch {
		case !r.Silent(now):
			alive++
			continue
		case r.Connected:
			what = "has sessions here, and has asked for nothing"
		default:
			what = "has no session here, and has not been seen"
		}
		d.report("relays", StatusWarn, fmt.Sprintf("relay %s %s for %s: it hangs or is gone, without a clean stop. It owns %s, which another relay takes over",
			title[r.Incarnation], what, human.Duration(now.Sub(r.LastSeen)), human.Plural(r.Subscriptions, "subscription")),
			"postrider run", fmt.Sprintf("or, if none is to run: DELETE FROM postrider.relays WHERE incarnation = '%s';", r.Incarnation))
	}
	for name, text := range admin.Contested(relays, now) {
		d.report("relays", StatusWarn, fmt.Sprintf("subscription %q: %s", name, text), "set another POSTRIDER_SUBSCRIPTION for one of them")
	}
	switch {
	case len(relays) == 0:
		d.report("relays", StatusNote, "no relay is registered: nothing is delivered", "postrider run")
	case alive == len(relays):
		d.report("relays", StatusOK, human.Plural(int64(alive), "relay")+" registered, all seen a moment ago")
	}
	return nil
}

// checkUnable finds relays that lack what a subscription needs, also where others deliver it meanwhile.
func (d *examination) checkUnable(ctx context.Context) error {
	rows, err := d.db.Query(ctx, "SELECT r.name, u.key, u.value ->> 'reason' FROM postrider.relays r, jsonb_each(r.unable) u ORDER BY 2, 1")
	if err != nil {
		return err
	}
	var relay, subscription, reason string
	_, err = pgx.ForEachRow(rows, []any{&relay, &subscription, &reason}, func() error {
		d.report("relays", StatusWarn, fmt.Sprintf("relay %q cannot deliver %q and leaves it to others: %s", relay, subscription, reason),
			"its log says more; it tries again by itself")
		return nil
	})
	return err
}

// subscriptionHealth is what checkSubscriptions looks at; ages are in seconds.
type subscriptionHealth struct {
	Name, State, Reason, Trouble, Owner string
	Segments                            int64
	Unchanged, Unsaved                  float64
}

func (d *examination) checkSubscriptions(ctx context.Context) error {
	var list []subscriptionHealth
	err := admin.ReadOnly(ctx, d.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT v.name, v.state, coalesce(v.paused_reason, ''), coalesce(v.trouble, ''), coalesce(v.owner, ''), v.segments_held,
			       extract(epoch FROM clock_timestamp() - s.updated_at)::float8, extract(epoch FROM clock_timestamp() - v.saved_at)::float8
			FROM postrider.subscription_status v JOIN postrider.subscriptions s USING (name) ORDER BY name`)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[subscriptionHealth])
		return err
	})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		d.report("subscriptions", StatusNote, "there are no subscriptions", "postrider subs apply FILE, or POSTRIDER_SINK and POSTRIDER_TOPICS for `postrider run`")
		return nil
	}
	well := 0
	for _, s := range list {
		if f := s.finding(); f.Status == StatusOK {
			well++
		} else {
			d.findings = append(d.findings, f)
		}
	}
	if well == len(list) {
		d.report("subscriptions", StatusOK, human.Plural(int64(well), "subscription")+", none in trouble")
	}
	return nil
}

// finding judges one subscription.
func (s subscriptionHealth) finding() Finding {
	const name = "subscriptions"
	holds := ""
	if s.Segments > 0 {
		holds = fmt.Sprintf(", and holds %s", human.Plural(s.Segments, "segment"))
	}
	remove := "or, if nobody needs it any more: postrider subs remove " + s.Name
	switch {
	case s.State == "paused":
		status := StatusNote
		if s.Segments > 0 && human.Seconds(s.Unchanged) > abandonedAfter {
			status = StatusWarn
		}
		return Finding{name, status, fmt.Sprintf("%q has been paused for %s (%s)%s", s.Name, human.Duration(human.Seconds(s.Unchanged)), cmp.Or(s.Reason, "no reason given"), holds),
			[]string{"postrider subs resume " + s.Name, remove}}
	case s.Trouble != "":
		return Finding{name, StatusWarn, fmt.Sprintf("%q: %s%s", s.Name, s.Trouble, holds), nil}
	case s.Owner == "" && s.Segments > 0 && human.Seconds(s.Unsaved) > abandonedAfter:
		return Finding{name, StatusWarn, fmt.Sprintf("%q has been delivered by nobody for %s%s", s.Name, human.Duration(human.Seconds(s.Unsaved)), holds),
			[]string{"postrider run", remove}}
	}
	return Finding{name, StatusOK, "", nil}
}

func (d *examination) checkDead(ctx context.Context) error {
	rows, err := d.db.Query(ctx, "SELECT subscription, count(*) FROM postrider.parked WHERE state = 'dead' GROUP BY 1 ORDER BY 1")
	if err != nil {
		return err
	}
	var name string
	var n int64
	found := len(d.findings)
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		d.report("dead letters", StatusWarn, fmt.Sprintf("%q has %s", name, human.Plural(n, "dead letter")),
			"postrider parked list "+name+" --state dead", "postrider parked redrive "+name+" --all", "or: postrider parked discard "+name+" --all")
		return nil
	})
	if err == nil && found == len(d.findings) {
		d.report("dead letters", StatusOK, "none")
	}
	return err
}

// checkSequence finds a sequence that was set back, or left behind by a copy: new messages get ids that are there.
func (d *examination) checkSequence(ctx context.Context) error {
	var may bool
	if err := d.db.QueryRow(ctx, "SELECT has_sequence_privilege('postrider.outbox_id_seq', 'SELECT')").Scan(&may); err != nil {
		return err
	}
	if !may {
		d.report("ids", StatusNote, "this role may not read the sequence of ids, so it is not known whether it is behind",
			fmt.Sprintf("GRANT SELECT ON SEQUENCE postrider.outbox_id_seq TO %s;", quoteName(d.role)))
		return nil
	}
	var next, highest int64
	// The greatest id first: what is inserted meanwhile is not behind.
	err := d.db.QueryRow(ctx, `WITH o AS MATERIALIZED (SELECT coalesce(max(id), 0) AS highest FROM postrider.outbox)
		SELECT o.highest, s.last_value + CASE WHEN s.is_called AND s.last_value < 9223372036854775807 THEN 1 ELSE 0 END
		FROM o CROSS JOIN postrider.outbox_id_seq s`).Scan(&highest, &next)
	if err != nil {
		return err
	}
	if next > highest {
		d.report("ids", StatusOK, fmt.Sprintf("the next message gets id %d, beyond all in the outbox", next))
		return nil
	}
	d.report("ids", StatusWarn, fmt.Sprintf("the sequence of ids is behind: the next message gets id %d, and the outbox holds ids up to %d; an INSERT fails where its id is taken in the same segment",
		next, highest), "SELECT setval('postrider.outbox_id_seq', (SELECT max(id) FROM postrider.outbox));")
	return nil
}
