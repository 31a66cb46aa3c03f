package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/outbox"
)

// dimensions are what surroundings differ in, each with its values.
var dimensions = [][]string{
	{"no settings", "settings of the role", "settings of the database"},
	{"UTF8", "LATIN1", "SQL_ASCII"},
	{"no pooler", "pooler in transaction mode"},
	{"one host", "primary first", "standby first"},
	{"follow auto", "follow timer"},
}

// pairs chooses rows of values, one of each dimension, in which any two values of two dimensions meet at least once: what breaks something is
// hardly ever more than two things that meet.
func pairs(dimensions [][]string, seed uint64) (rows [][]string) {
	open := make(map[[2]string]bool)
	for i, a := range dimensions {
		for _, b := range dimensions[i+1:] {
			for _, x := range a {
				for _, y := range b {
					open[[2]string{x, y}] = true
				}
			}
		}
	}
	meets := func(row []string) (met [][2]string) {
		for i, x := range row {
			for _, y := range row[i+1:] {
				if p := [2]string{x, y}; open[p] {
					met = append(met, p)
				}
			}
		}
		return met
	}
	random := rand.New(rand.NewPCG(seed, 0))
	for len(open) > 0 {
		var best []string
		for range 200 {
			var row []string
			for _, values := range dimensions {
				row = append(row, values[random.IntN(len(values))])
			}
			if len(meets(row)) > len(meets(best)) {
				best = row
			}
		}
		for _, p := range meets(best) {
			delete(open, p)
		}
		if best != nil {
			rows = append(rows, best)
		}
	}
	return rows
}

// place is where a row of surroundings puts a sidecar.
type place struct {
	primary, standby                          *pgtest.Server
	settings, encoding, pooler, hosts, follow string

	db     *pgtest.DB
	role   string
	direct string // connects to the primary itself
	url    string // connects as the row says
}

// Wherever a sidecar is put, messages of all kinds arrive as they were written, and it stops without a trace: all pairs of settings, encodings,
// poolers, hosts and ways to follow. Through a pooler in statement mode it says what to set instead.
func TestSurroundings(t *testing.T) {
	t.Parallel()
	primary := pgtest.Servers(t, pgtest.Options{WALLevel: "logical"})
	standby := pgtest.Standbys(t, primary, pgtest.Options{})
	t.Run("places", func(t *testing.T) { // so that the servers outlive them
		rows := pairs(dimensions, 1)
		if len(rows) < 9 || len(rows) > 15 {
			t.Errorf("%d rows, want about as many as there are pairs of the two longest dimensions", len(rows))
		}
		for _, row := range rows {
			t.Run(strings.Join(row, ", "), func(t *testing.T) {
				t.Parallel()
				p := &place{primary: primary, standby: standby, settings: row[0], encoding: row[1], pooler: row[2], hosts: row[3], follow: row[4]}
				p.make(t, "transaction")
				p.works(t)
			})
		}
		for i, settings := range dimensions[0] {
			t.Run("statement mode, "+settings, func(t *testing.T) {
				t.Parallel()
				p := &place{primary: primary, standby: standby, settings: settings, encoding: dimensions[1][i], pooler: "pooler", hosts: dimensions[3][i]}
				p.make(t, "statement")
				for _, args := range [][]string{{"migrate"}, {"run"}, {"status"}} {
					runCommand(t, []string{"POSTRIDER_DATABASE_URL=" + p.url, "POSTRIDER_HTTP_ADDR=off"}, "", args...).fails("a pooler in statement mode", "set pool_mode = transaction")
				}
			})
		}
	})
}

// make makes the database, the role that owns it, and the way to it.
func (p *place) make(t *testing.T, mode string) {
	t.Helper()
	p.db = p.primary.Encoded(t, p.encoding)
	p.role = p.db.Role(t, "odd", "REPLICATION")
	var sql strings.Builder
	fmt.Fprintf(&sql, "ALTER DATABASE %q OWNER TO %q; CREATE ACCESS METHOD odd_heap TYPE TABLE HANDLER heap_tableam_handler; LOAD 'plpgsql';", p.db.Name, p.role)
	if p.settings != "no settings" {
		on, high := fmt.Sprintf("ROLE %q", p.role), false
		if p.settings == "settings of the database" {
			on, high = fmt.Sprintf("DATABASE %q", p.db.Name), true
		}
		for _, s := range oddSettings(t, p.db, high) {
			if s.name == "idle_session_timeout" && p.pooler != "no pooler" {
				s.value = "'1h'" // PgBouncer may hand out a session in the very moment when PostgreSQL ends it
			}
			fmt.Fprintf(&sql, "ALTER %s SET %s = %s;", on, s.name, s.value)
		}
	}
	p.db.Exec(t, sql.String())
	if err := p.primary.AwaitCaughtUp(t.Context(), p.standby); err != nil { // a host without the database would be another case
		t.Fatal(err)
	}
	p.direct = p.db.RoleURL(p.role)
	address := fmt.Sprintf("127.0.0.1:%d", p.primary.Port())
	way := address
	if p.pooler != "no pooler" {
		way = fmt.Sprintf("127.0.0.1:%d", pgtest.Bouncers(t, p.primary, pgtest.BouncerOptions{PoolMode: mode, User: p.role}).Port())
	}
	other := fmt.Sprintf("127.0.0.1:%d", p.standby.Port())
	hosts := map[string]string{"one host": way, "primary first": way + "," + other, "standby first": other + "," + way}[p.hosts]
	p.url = strings.Replace(p.direct, address, hosts, 1)
}

// sent is a message and the body with which it arrives.
type sent struct {
	outbox.Message
	body string
}

// messages are typical ones and nasty ones.
func (p *place) messages() []sent {
	text := map[string]string{"UTF8": "grün ✓ 😀", "LATIN1": "grün", "SQL_ASCII": "grün ✓ 😀"}[p.encoding]
	raw := func(topic, document string) sent {
		return sent{outbox.Message{Topic: topic, Payload: json.RawMessage(document)}, document}
	}
	list := []sent{
		raw("a.typical", `{"id": 42, "of": null, "paid": true, "total": 99.90}`),
		raw("a.text", `"`+text+`"`),
		raw("a.quotes", `{"it's": "a \\ \" $1 %s \u0007"}`),
		raw("a.digits", "1"+strings.Repeat("0", 900)),
		raw("a.long", `"`+strings.Repeat("x", 300_000)+`"`),
		{outbox.Message{Topic: "a.bytes", Body: []byte("\x00\\x5c\xff\xfe")}, "\x00\\x5c\xff\xfe"},
		{outbox.Message{Topic: "a.empty", Body: []byte{}}, ""},
		raw("a.soon", `"soon"`),
	}
	list[len(list)-1].DeliverAt = time.Now().Add(time.Second)
	for i := range 5 { // in order
		m := raw("a.keyed", fmt.Sprintf(`{"keyed": %d}`, i))
		m.Key, m.Headers = text+" '\\ k", map[string]string{"h": "v"}
		list = append(list, m)
	}
	return list
}

// works lets the product be used once, and again after a stop.
func (p *place) works(t *testing.T) {
	t.Helper()
	on(t, p.url, "migrate").ok("applied")
	sink, received := webhookReceiver(t, accepts)
	env := append(sidecar(p.url, sink, "a.>"), "POSTRIDER_FOLLOW="+strings.TrimPrefix(p.follow, "follow "))
	run := start(t, env...)
	run.waitFor("msg=delivering")
	// pgx sends UTF-8, whatever encoding the session has: to say so is the application's part.
	app := enqueuer(t, p.direct+"&client_encoding=UTF8", p.settings != "no settings" && p.version(t) >= 17)
	var want, got, order []string
	for _, m := range p.messages() {
		app(m.Message)
		want = append(want, m.body)
	}
	on(t, p.url, "enqueue", "a.cli", `{"n":1.5}`, "--key", "k", "--header", "h=v").ok()
	want = append(want, `{"n": 1.5}`)
	dead := 0
	if p.encoding == "SQL_ASCII" {
		p.insertBytes(t)
		dead = 1
	}
	for range want {
		body := receive(t, received)
		if got = append(got, body); strings.HasPrefix(body, `{"keyed"`) {
			order = append(order, body)
		}
	}
	if !slices.IsSorted(order) {
		t.Errorf("messages of one key came in the order %q", order)
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("received %.200q, want %.200q", got, want)
	}
	eventually(t, "all is settled", func() bool {
		return p.count(t, "SELECT count(*) FROM postrider.deliveries WHERE status = 'delivered'") == len(want) &&
			p.count(t, "SELECT count(*) FROM postrider.deliveries WHERE status = 'dead'") == dead
	})
	on(t, p.url, "status").ok("default active")
	doctorOn(t, p.url, "POSTRIDER_FOLLOW=timer").has("ok primary", " 0 failed")
	p.stops(t, run)

	run = start(t, env...)
	run.waitFor("msg=delivering")
	on(t, p.url, "enqueue", "a.again", `"again"`).ok()
	if body := receive(t, received); body != `"again"` {
		t.Errorf("received %.200q after a stop, want nothing but what is new", body)
	}
	p.stops(t, run)
}

// insertBytes enqueues what is no text, in a database that does not mind.
func (p *place) insertBytes(t *testing.T) {
	t.Helper()
	conn := connectTo(t, p.direct+"&default_transaction_read_only=off&statement_timeout=0&standard_conforming_strings=on")
	if _, err := conn.Exec(t.Context(), `SELECT postrider.enqueue('a.bad', pg_catalog.convert_from('\x22ff22', 'SQL_ASCII')::jsonb)`); err != nil {
		t.Fatal(err)
	}
}

func (p *place) version(t *testing.T) int {
	t.Helper()
	return p.count(t, "SELECT current_setting('server_version_num')::int / 10000")
}

// count asks as the product does, whatever is set.
func (p *place) count(t *testing.T, sql string) (n int) {
	t.Helper()
	conn, err := admin.Connect(t.Context(), p.direct)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(conn)
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// stops wants a stop in order, which leaves nothing behind.
func (p *place) stops(t *testing.T, run *process) {
	t.Helper()
	run.signal(syscall.SIGTERM)
	if status := run.ends(); status != 0 {
		text, _ := run.out.read()
		t.Errorf("status %d:\n%s", status, text)
	}
	const left = `SELECT (SELECT count(*) FROM postrider.relays) + (SELECT count(*) FROM postrider.cursors WHERE owner IS NOT NULL)
		+ (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())`
	if n := p.count(t, left); n != 0 {
		t.Errorf("%d relays, owners and slots are left", n)
	}
}
