package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/pgtest"
)

// arrival is a request as it came.
type arrival struct{ contentType, body string }

// echoingReceiver refuses what holds "bad" with an answer of its own, and hands on all that comes.
func echoingReceiver(t *testing.T, answer string) (url string, arrivals <-chan arrival) {
	t.Helper()
	all := make(chan arrival, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		all <- arrival{r.Header.Get("Content-Type"), string(body)}
		if strings.Contains(string(body), "bad") {
			http.Error(w, answer, http.StatusUnprocessableEntity)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return "http://" + l.Addr().String() + "/hook", all
}

func receiveArrival(t *testing.T, from <-chan arrival) arrival {
	t.Helper()
	bodies := make(chan string, 1)
	var a arrival
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case a = <-from:
			bodies <- a.body
		case <-stop:
		}
	}()
	receive(t, bodies)
	return a
}

// Whatever the database's encoding and the role's, JSON arrives as UTF-8, and a reason with any bytes can be stored: neither ends
// the feed of the others.
func TestEncodings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ encoding, role, text, literal, reason string }{
		{"UTF8", "LATIN1", "grün ✓ 😀", `U&'"gr\00fcn \2713 \+01f600"'`, "abgelehnt ✓"},
		{"LATIN1", "UTF8", "grün", `convert_from('\x226772fc6e22', 'LATIN1')`, `abgelehnt \u2713`},
		{"LATIN1", "SQL_ASCII", "grün", `convert_from('\x226772fc6e22', 'LATIN1')`, `abgelehnt \u2713`},
		{"EUC_JP", "SJIS", "日本", `convert_from('\x22c6fccbdc22', 'EUC_JP')`, `abgelehnt \u2713`},
		{"WIN1252", "UTF8", "€ grün", `convert_from('\x2280206772fc6e22', 'WIN1252')`, `abgelehnt \u2713`},
		{"SQL_ASCII", "SQL_ASCII", "grün ✓", `convert_from('\x226772c3bc6e20e29c9322', 'SQL_ASCII')`, "abgelehnt ✓"},
		{"SQL_ASCII", "UTF8", "grün ✓", `convert_from('\x226772c3bc6e20e29c9322', 'SQL_ASCII')`, "abgelehnt ✓"},
	} {
		for _, follow := range []string{"timer", "stream"} {
			t.Run(fmt.Sprintf("%s, role %s, %s", c.encoding, c.role, follow), func(t *testing.T) {
				t.Parallel()
				db := pgtest.Encoded(t, c.encoding)
				role := db.Role(t, "coded", "SUPERUSER")
				db.Exec(t, fmt.Sprintf("ALTER ROLE %q SET client_encoding = '%s'", role, c.role))
				url, arrivals := echoingReceiver(t, "abgelehnt ✓ \xff")
				p := start(t, append(sidecar(db.RoleURL(role), url, ">"), "POSTRIDER_FOLLOW="+follow, "POSTRIDER_NAME=Stück ✓")...)
				if follow == "stream" {
					p.waitFor("following the stream")
				} else {
					p.waitFor("delivering")
				}
				insert := func(payload string) {
					t.Helper()
					db.Exec(t, "INSERT INTO postrider.outbox (topic, payload) VALUES ('a', ("+payload+")::text::jsonb)")
				}
				insert(c.literal)
				a := receiveArrival(t, arrivals)
				var got string
				if !utf8.ValidString(a.body) || json.Unmarshal([]byte(a.body), &got) != nil || got != c.text || !strings.HasPrefix(a.contentType, "application/json") {
					t.Errorf("%s: received %q, want the JSON of %q", a.contentType, a.body, c.text)
				}
				insert(`'"bad"'`)
				receiveArrival(t, arrivals)
				eventually(t, "the dead letter is there", func() bool {
					return one[int](t, db, "SELECT count(*) FROM postrider.parked WHERE state = 'dead'") == 1
				})
				on(t, db.RoleURL(role), "parked", "list", "default").ok(c.reason)
				// Not only to whoever has written it: octets are what they are.
				if got := one[[]byte](t, db, "SELECT convert_to(reason, pg_encoding_to_char(encoding)) FROM postrider.parked, pg_database WHERE datname = current_database()"); !strings.Contains(string(got), c.reason) {
					t.Errorf("the reason is stored as %q, want %q", got, c.reason)
				}
				insert(`'"after"'`)
				if a := receiveArrival(t, arrivals); a.body != `"after"` {
					t.Errorf("received %q", a.body)
				}
				on(t, db.RoleURL(role), "subs", "pause", "default", "--reason", "Wartung ✓").ok()
				on(t, db.RoleURL(role), "status").ok("Wartung " + strings.Fields(c.reason)[1])
			})
		}
	}
}

// In a SQL_ASCII database a row may hold any bytes. One that is not UTF-8 is dead with its reason, and stops nobody else.
func TestBytesThatAreNoText(t *testing.T) {
	t.Parallel()
	for _, follow := range []string{"timer", "stream"} {
		t.Run(follow, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Encoded(t, "SQL_ASCII")
			role := db.Role(t, "ascii", "SUPERUSER")
			db.Exec(t, fmt.Sprintf("ALTER ROLE %q SET client_encoding = 'UTF8'", role))
			url, arrivals := echoingReceiver(t, "")
			p := start(t, append(sidecar(db.RoleURL(role), url, ">"), "POSTRIDER_FOLLOW="+follow)...)
			if follow == "stream" {
				p.waitFor("following the stream")
			} else {
				p.waitFor("delivering")
			}
			db.Exec(t, `INSERT INTO postrider.outbox (topic, payload, key, headers, body) VALUES
				('p', convert_from('\x22ff22', 'SQL_ASCII')::jsonb, NULL, NULL, NULL),
				('k', '1', convert_from('\xfe', 'SQL_ASCII'), NULL, NULL),
				('h', '1', NULL, convert_from('\x7b2268223a22fd227d', 'SQL_ASCII')::jsonb, NULL),
				('b', NULL, NULL, NULL, '\xff'),
				('good', '"good"', NULL, NULL, NULL)`)
			got := []string{receiveArrival(t, arrivals).body, receiveArrival(t, arrivals).body}
			if slices.Sort(got); !slices.Equal(got, []string{`"good"`, "\xff"}) {
				t.Errorf("received %q", got)
			}
			eventually(t, "three are dead", func() bool {
				return one[int](t, db, "SELECT count(*) FROM postrider.parked WHERE state = 'dead'") == 3
			})
			on(t, db.RoleURL(role), "parked", "list", "default").ok("the payload: not UTF-8", "the key: not UTF-8", "the headers: not UTF-8")
			on(t, db.RoleURL(role), "parked", "redrive", "default", "--all").ok()
			on(t, db.RoleURL(role), "enqueue", "good", `"again"`).ok()
			if a := receiveArrival(t, arrivals); a.body != `"again"` {
				t.Errorf("received %q", a.body)
			}
		})
	}
}
