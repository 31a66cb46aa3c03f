package main

import (
	"fmt"
	"net/url"
	"syscall"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// Each message becomes one row of another database, in the order of its key, though relays are killed while they deliver.
func TestEachMessageIsOneRow(t *testing.T) {
	t.Parallel()
	from, to := newDB(t), pgtest.Empty(t)
	role := to.Role(t, "receiver", "")
	on(t, to.URL(), "inbox", "install", "--grant", role).ok()
	to.Exec(t, `CREATE TABLE events (n bigserial, message_id text, topic text, key text, payload jsonb, body bytea, headers jsonb, created_at timestamptz);
		GRANT INSERT ON events TO `+role+`; GRANT USAGE ON SEQUENCE events_n_seq TO `+role)
	u, err := url.Parse(to.RoleURL(role))
	if err != nil {
		t.Fatal(err)
	}
	sink := fmt.Sprintf("postgres://%s@%s/%s?table=public.events", role, u.Host, to.Name)
	on(t, from.URL(), "subs", "apply", writeFile(t, "subscriptions:\n  - {name: copy, topics: [a.>], sink: '"+sink+"', batch: 20}\n")).ok()
	on(t, from.URL(), "doctor").ok("1 subscription, none in trouble")
	to.Exec(t, "ALTER TABLE events RENAME TO elsewhere")
	on(t, from.URL(), "doctor").fails("failed").has(`relation "public.events" does not exist`, "docs/postgres.md")
	to.Exec(t, "ALTER TABLE elsewhere RENAME TO events")
	const n, kills = 3000, 4
	env := []string{"POSTRIDER_DATABASE_URL=" + from.URL(), "POSTRIDER_LEASE=1s"}
	pool := to.Pool(t)
	rows := func() int { return ask[int](t, pool, "SELECT count(*) FROM events") }
	for k := range kills {
		from.Exec(t, fmt.Sprintf("INSERT INTO postrider.outbox (topic, key, payload) SELECT 'a.b', 'k' || i %% 7, to_jsonb(i) FROM generate_series(%d, %d) i", k*n/kills, (k+1)*n/kills-1))
		p := start(t, env...)
		eventually(t, "some have arrived", func() bool { return rows() > k*n/kills })
		p.signal(syscall.SIGKILL)
	}
	start(t, env...)
	eventually(t, "all have arrived", func() bool { return rows() >= n })
	if got := ask[int](t, pool, "SELECT count(DISTINCT message_id) FROM events"); got != n || rows() != n {
		t.Errorf("%d rows of %d messages, want one of each of %d", rows(), got, n)
	}
	if swapped := ask[int](t, pool, "SELECT count(*) FROM (SELECT payload::int p, lag(payload::int) OVER (PARTITION BY key ORDER BY n) before FROM events) o WHERE p < before"); swapped > 0 {
		t.Errorf("%d came before an older one of their key", swapped)
	}
}
