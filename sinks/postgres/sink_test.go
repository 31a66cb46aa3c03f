package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/inbox"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func (s *scene) deliver(sink sinks.Sink, batch ...sinks.Delivery) []error {
	return sinktest.Deliver(s.t.Context(), sink, batch...)
}

func batchOf(topics ...string) (list []sinks.Delivery) {
	for i, topic := range topics {
		list = append(list, sinktest.NewDelivery(topic, fmt.Sprintf(`{"n": %d}`, i)))
	}
	return list
}

// await waits until a query counts something.
func (s *scene) await(what, sql string) {
	s.t.Helper()
	for deadline := time.Now().Add(sinktest.Patience); ask[int](s, sql) == 0; {
		if time.Now().After(deadline) {
			s.t.Fatalf("still not: %s", what)
		}
	}
}

// A message that comes again has no second effect, also when the answer to COMMIT got lost.
func TestOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	sink := s.to("table=public.events", "")
	batch := batchOf("a", "b", "c")
	for range 2 {
		sinktest.WantKinds(t, s.deliver(sink, batch...), sinks.KindAccepted, sinks.KindAccepted, sinks.KindAccepted)
	}
	s.exec("CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END $$; CREATE TRIGGER cut BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION cut()")
	holder := s.db.Conn(t)
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(42)"); err != nil {
		t.Fatal(err)
	}
	lost := sinktest.NewDelivery("lost", `{}`)
	done := make(chan []error, 1)
	go func() { done <- s.deliver(sink, lost) }()
	s.await("it comes to the trigger", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
	s.link.HalfOpen(linktest.ToClient) // the server hears all, and is not heard
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_unlock(42)"); err != nil {
		t.Fatal(err)
	}
	s.await("it is committed", "SELECT count(*) FROM events WHERE topic = 'lost'")
	s.link.Down()
	sinktest.WantKinds(t, <-done, sinks.KindUnavailable)
	s.link.Up()
	sinktest.WantKinds(t, s.deliver(sink, lost), sinks.KindAccepted)
	if all, distinct := ask[int](s, "SELECT count(*) FROM events"), ask[int](s, "SELECT count(DISTINCT message_id) FROM events"); all != 4 || distinct != 4 {
		t.Errorf("%d rows of %d messages, want 4", all, distinct)
	}
}

// What one message is wrong with concerns that one alone; the others of its batch arrive, in order.
func TestBadRowsAlone(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	sink := s.to("table=public.events", "")
	got := s.deliver(sink, batchOf("a", "never", "b", "c")...)
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindRetryable, sinks.KindAccepted, sinks.KindAccepted)
	sinktest.WantText(t, got[1], sinks.KindRetryable, "violates check constraint", "SQLSTATE 23514", "events_topic_check")
	var topics []string
	for _, r := range s.received() {
		topics = append(topics, r.Topic)
	}
	if fmt.Sprint(topics) != "[a b c]" {
		t.Errorf("arrived %v", topics)
	}
	sinktest.WantText(t, s.deliver(sink, batchOf("never")...)[0], sinks.KindRetryable)
	sinktest.WantKinds(t, s.deliver(sink, batchOf("d")...), sinks.KindAccepted)
}

// A batch is inserted in its order, however the statement is planned, and what is wrong with a message costs no connection.
func TestOrderAndConnections(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.exec("ALTER TABLE events ADD COLUMN pid int DEFAULT pg_backend_pid()")
	s.exec("DO $$ BEGIN EXECUTE format('ALTER DATABASE %1$I SET enable_hashjoin = off; ALTER DATABASE %1$I SET enable_nestloop = off', current_database()); END $$") // what is joined is sorted by mark
	sink := s.to("table=public.events", "")
	var topics []string
	for i := range 400 {
		topics = append(topics, fmt.Sprintf("t.%d", i*7919%400))
	}
	for _, err := range s.deliver(sink, batchOf(topics...)...) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range s.received() {
		if r.Topic != topics[i] {
			t.Fatalf("row %d has topic %s, want %s", i, r.Topic, topics[i])
		}
	}
	s.deliver(sink, batchOf("a", "never", "b")...)
	sinktest.WantKinds(t, s.deliver(sink, batchOf("c")...), sinks.KindAccepted)
	if n := ask[int](s, "SELECT count(DISTINCT pid) FROM events"); n != 1 {
		t.Errorf("%d connections were used, one after the other, want 1", n)
	}
}

// A few bad messages among many cost a few transactions, not one for each.
func TestFewTransactions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.exec("CREATE SEQUENCE statements; CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('statements'); RETURN NULL; END $$; CREATE TRIGGER counts BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION counts()")
	topics := make([]string, 256)
	for i := range topics {
		topics[i] = "a"
	}
	topics[100], topics[200] = "never", "never"
	for i, err := range s.deliver(s.to("table=public.events", ""), batchOf(topics...)...) {
		if (err != nil) != (topics[i] == "never") {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if n := ask[int](s, "SELECT last_value FROM statements"); n > 35 {
		t.Errorf("%d statements for 256 messages of which 2 are bad", n)
	}
}

// What messages have or have not, all of a batch or some of it, is there as it was, and what they have not is NULL.
func TestColumns(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	sink := s.to("table=public.events", "")
	made := func(i int, change func(*sinks.Message)) sinks.Delivery {
		d := sinktest.NewDelivery("a", fmt.Sprintf(`{"quoted": "\"%d\" \\ {},"}`, i))
		d.CreatedAt = time.Date(1999, 12, 31, 23, 59, 59, 123_456_000+i, time.UTC).Truncate(time.Microsecond)
		change(d.Message)
		return d
	}
	plain := func(*sinks.Message) {}
	keyed := func(m *sinks.Message) { m.Key = "Zoë, {\"x\"}" }
	headed := func(m *sinks.Message) { m.Headers = []byte(`{"a": "b"}`) }
	bytes := func(m *sinks.Message) { m.JSON, m.Payload = false, []byte("\x00\xff") }
	empty := func(m *sinks.Message) { m.JSON, m.Payload = false, nil }
	for _, changes := range [][]func(*sinks.Message){{plain}, {keyed, plain}, {headed, plain}, {bytes}, {empty}, {plain, empty, keyed}, {bytes, headed}} {
		var batch []sinks.Delivery
		for i, change := range changes {
			batch = append(batch, made(i, change))
		}
		for i, outcome := range s.deliver(sink, batch...) {
			if outcome != nil {
				t.Fatal(outcome)
			}
			m := batch[i].Message
			var key, payload, headers *string
			var body []byte
			var created time.Time
			if err := s.conn.QueryRow(t.Context(), "SELECT key, payload::text, body, headers::text, created_at FROM events WHERE message_id = $1", m.MessageID).Scan(&key, &payload, &body, &headers, &created); err != nil {
				t.Fatal(err)
			}
			same := func(got *string, want string, is bool) bool {
				return (got != nil) == is && (got == nil || *got == want)
			}
			if !same(key, m.Key, m.Key != "") || !same(payload, string(m.Payload), m.JSON) || !same(headers, string(m.Headers), m.Headers != nil) || (body != nil) == m.JSON || !m.JSON && string(body) != string(m.Payload) || !created.Equal(m.CreatedAt) {
				t.Errorf("%+v: key %v, payload %v, body %v, headers %v, created %v", m, key, payload, body, headers, created)
			}
		}
	}
}

// A function makes the effects, in the transaction in which its message is accepted, with the settings of the role.
func TestFunction(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.exec(`CREATE SCHEMA shop; CREATE TABLE shop.effects (id text, topic text, key text, payload jsonb, body bytea, headers jsonb, made timestamptz);
		CREATE FUNCTION shop.handle(message_id text, topic text, key text, payload jsonb, body bytea, headers jsonb, created_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO effects VALUES (message_id, topic, key, payload, body, headers, created_at); -- found by the role's search_path
			IF topic = 'refused' THEN RAISE EXCEPTION 'not this one' USING HINT = 'send another'; END IF;
		END $$`)
	role := s.db.Role(t, "receiver", "")
	s.exec(inbox.Grants(role) + fmt.Sprintf("GRANT USAGE ON SCHEMA shop TO %[1]s; GRANT INSERT ON shop.effects TO %[1]s; ALTER ROLE %[1]s SET search_path = shop; ALTER ROLE %[1]s SET default_transaction_read_only = on; ALTER ROLE %[1]s SET default_transaction_isolation = 'serializable'", role))
	sink := s.open(t, sinks.Target{URL: s.url(role, ""), Options: []byte(`{"function": "shop.handle"}`)})
	defer sink.Close()
	d := sinktest.NewDelivery("orders.created", `{"total": 12}`)
	d.Key, d.Headers = "order-1", []byte(`{"h": "v"}`)
	bytes := sinktest.NewDelivery("raw", "\x00\xff")
	bytes.JSON = false
	refused := sinktest.NewDelivery("refused", "{}")
	for range 2 {
		got := s.deliver(sink, d, refused, bytes)
		sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindRetryable, sinks.KindAccepted)
		sinktest.WantText(t, got[1], sinks.KindRetryable, "not this one (SQLSTATE P0001), hint: send another")
	}
	want := fmt.Sprintf(`{"id": %q, "key": "order-1", "body": null, "made": true, "topic": "orders.created", "headers": {"h": "v"}, "payload": {"total": 12}}`, d.MessageID)
	got := ask[string](s, `SELECT jsonb_build_object('id', id, 'topic', topic, 'key', key, 'payload', payload, 'body', body, 'headers', headers, 'made', made = $2)::text FROM shop.effects WHERE id = $1`, d.MessageID, d.CreatedAt)
	if got != want {
		t.Errorf("the function got %s, want %s", got, want)
	}
	if got := ask[[]byte](s, "SELECT body FROM shop.effects WHERE topic = 'raw' AND payload IS NULL AND key IS NULL AND headers IS NULL"); string(got) != "\x00\xff" {
		t.Errorf("the bytes are %q", got)
	}
	if n := ask[int](s, "SELECT count(*) FROM shop.effects"); n != 2 {
		t.Errorf("%d effects, want 2", n)
	}
}

// Messages go on in the outbox of another database; two that feed each other do not do so for ever.
func TestOutbox(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if _, err := migrations.Up(t.Context(), s.db.URL()); err != nil {
		t.Fatal(err)
	}
	sink := s.to("table=postrider.outbox", "")
	d := sinktest.NewDelivery("orders.created", `{"total": 12}`)
	d.Key, d.Headers, d.Priority = "k", []byte(`{"h": "v"}`), 1
	last, over, broken := sinktest.NewDelivery("a.b", "1"), sinktest.NewDelivery("a.b", "1"), sinktest.NewDelivery("a.b", "1")
	last.Headers, over.Headers, broken.Headers = []byte(`{"postrider-hops": "15"}`), []byte(`{"postrider-hops": "16"}`), []byte(`{"postrider-hops": "x"}`)
	for _, d := range []*sinks.Delivery{&last, &over, &broken} {
		d.Priority = sinks.DefaultPriority
	}
	for range 2 {
		got := s.deliver(sink, d, last, over, broken)
		sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindAccepted, sinks.KindPermanent, sinks.KindPermanent)
		sinktest.WantText(t, got[2], sinks.KindPermanent, "16 databases", "feed each other")
	}
	if got := ask[string](s, "SELECT string_agg(concat_ws(' ', topic, key, payload, headers, priority), '; ' ORDER BY id) FROM postrider.outbox"); got !=
		`orders.created k {"total": 12} {"h": "v", "postrider-hops": "1"} 1; a.b 1 {"postrider-hops": "16"} 2` {
		t.Errorf("the outbox has %s", got)
	}
}

// Targets have each message once each; those of one inbox once between them.
func TestInboxes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.exec("CREATE TABLE other (LIKE events INCLUDING ALL)")
	d := sinktest.NewDelivery("a", "{}")
	for _, c := range []struct{ query, options string }{{"table=public.events", ""}, {"table=public.other", ""}, {"table=public.events", `{"inbox": "mine"}`}, {"table=public.other", `{"inbox": "mine"}`}} {
		sinktest.WantKinds(t, s.deliver(s.to(c.query, c.options), d), sinks.KindAccepted)
	}
	if got := ask[string](s, "SELECT (SELECT count(*) FROM events) || ' ' || (SELECT count(*) FROM other)"); got != "2 1" {
		t.Errorf("rows: %s, want 2 and 1", got)
	}
}

// A conflict with others is nobody's fault: the transaction is tried again, and a message that has one each time fails alone.
func TestConflicts(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.exec(`CREATE SEQUENCE tries; CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.topic = 'always' OR NEW.topic = 'twice' AND nextval('tries') <= 2 THEN RAISE EXCEPTION 'in the way' USING ERRCODE = '40P01'; END IF;
			RETURN NEW;
		END $$; CREATE TRIGGER conflict BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION conflict()`)
	sink := s.to("table=public.events", "")
	sinktest.WantKinds(t, s.deliver(sink, batchOf("a", "twice", "b")...), sinks.KindAccepted, sinks.KindAccepted, sinks.KindAccepted)
	sinktest.WantText(t, s.deliver(sink, batchOf("always")...)[0], sinks.KindRetryable, "in the way", "40P01")
	sinktest.WantKinds(t, s.deliver(sink, batchOf("a", "always", "b")...), sinks.KindAccepted, sinks.KindRetryable, sinks.KindAccepted)
}

// What somebody has to change is told apart from a server that is away, with what would be right. Once it is, messages pass.
func TestSetup(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	role := s.db.Role(t, "receiver", "")
	try := func(query, options string) (error, error) {
		target := sinks.Target{URL: s.url(role, query), Options: []byte(options)}
		sink := s.open(t, target)
		defer sink.Close()
		return s.deliver(sink, batchOf("a")...)[0], Destination.Examine(t.Context(), target)
	}
	both := func(query, options string, words ...string) {
		t.Helper()
		outcome, unfit := try(query, options)
		sinktest.WantText(t, outcome, sinks.KindMisconfigured, words...)
		if u, ok := errors.AsType[*sinks.UnfitError](unfit); !ok || !strings.Contains(u.Text+u.Remedy, words[0]) {
			t.Errorf("examined: %v, want an UnfitError with %q", unfit, words[0])
		}
	}
	both("table=public.events", "", "permission denied for schema postrider_inbox", "postrider inbox install", "--grant "+role)
	s.exec(inbox.Grants(role))
	both("table=public.events", "", "permission denied for table events", "INSERT on the table", "public.events")
	both("table=public.nothing", "", `relation "public.nothing" does not exist`, "docs/postgres.md")
	both("table=nothing.events", "", `relation "nothing.events" does not exist`)
	both("function=public.nothing", "", "function public.nothing(text, text, text, jsonb, bytea, jsonb, timestamp with time zone) does not exist", "docs/postgres.md")
	both("table=public.events", `{"tls": {"mode": "require"}}`, "server refused TLS connection")
	both("table=public.events", `{"guard": {"deny": ["127.0.0.0/8"]}}`, "refused by the guard", "options.guard.allow")
	s.exec("CREATE TABLE narrow (message_id text); GRANT INSERT ON narrow TO " + role)
	both("table=public.narrow", "", `column "topic" of relation "narrow" does not exist`, "docs/postgres.md")
	s.exec("GRANT INSERT ON events TO " + role + "; GRANT USAGE ON SEQUENCE events_n_seq TO " + role)
	if outcome, unfit := try("table=public.events", ""); outcome != nil || unfit != nil {
		t.Errorf("with its rights: %v, examined: %v", outcome, unfit)
	}
	if n := ask[int](s, "SELECT count(*) FROM events"); n != 1 {
		t.Errorf("%d rows, want 1: to examine is to change nothing", n)
	}
	s.exec("ALTER ROLE " + role + " NOLOGIN")
	both("table=public.events", "", "is not permitted to log in")
	s.exec("ALTER ROLE " + role + " LOGIN")
	sink := s.open(t, sinks.Target{URL: strings.Replace(s.url(role, "table=public.events"), s.db.Name, "no_such_database", 1)})
	defer sink.Close()
	sinktest.WantText(t, s.deliver(sink, batchOf("a")...)[0], sinks.KindMisconfigured, "no_such_database")
}

// Without the inbox nothing is delivered, and the reason has the command that makes it.
func TestNoInbox(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.exec("DROP SCHEMA postrider_inbox CASCADE")
	sink := s.to("table=public.events", "")
	sinktest.WantText(t, s.deliver(sink, batchOf("a")...)[0], sinks.KindMisconfigured, "postrider_inbox", "postrider inbox install --database-url")
	if err := inbox.Install(t.Context(), s.conn); err != nil {
		t.Fatal(err)
	}
	sinktest.WantKinds(t, s.deliver(sink, batchOf("a")...), sinks.KindAccepted)
}

// A statement that takes too long is given up; the connection does not stay behind.
func TestTimeout(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.exec("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN NEW; END $$; CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.topic = 'slow') EXECUTE FUNCTION slow()")
	sink := s.open(t, sinks.Target{URL: s.url(s.owner(), "table=public.events"), Timeout: 500 * time.Millisecond})
	defer sink.Close()
	sinktest.WantText(t, s.deliver(sink, batchOf("slow")...)[0], sinks.KindUnavailable, "no answer in time")
	sinktest.WantKinds(t, s.deliver(sink, batchOf("a")...), sinks.KindAccepted)
}

// TestMadeAt: the sink reads of an id what the inbox would, and takes none that the inbox refuses.
func TestMadeAt(t *testing.T) {
	s := newScene(t)
	for _, id := range []string{"5eed0123-42-1767349445678900", "a-b-7-999999999999999", "0-0-000000000000001"} {
		var want int64
		if err := s.conn.QueryRow(t.Context(), "SELECT postrider_inbox.made_at($1)", id).Scan(&want); err != nil {
			t.Fatal(err)
		}
		if got, err := madeAt(id); got != want || err != nil {
			t.Errorf("%s: %d, %v, want %d", id, got, err, want)
		}
	}
	for _, id := range []string{"", "1767349445678900", "-", "5eed0123-42-", "5eed0123-42-99999999999999", "5eed0123-42-99999999999999999", "5eed0123-42-+17673494456789", "5eed0123-42-176734944567890x"} {
		if _, err := s.conn.Exec(t.Context(), "SELECT postrider_inbox.made_at($1)", id); err == nil {
			t.Errorf("the inbox takes %q", id)
		}
		if got, err := madeAt(id); err == nil {
			t.Errorf("%q: %d", id, got)
		}
	}
}
