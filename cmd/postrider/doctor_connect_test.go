package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/internal/natstest"
)

// A limit of the role or of the database is told as that, before it is reached and when it is, with the SQL that lifts it.
func TestDoctorOnLimitsOfConnections(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	role := db.Role(t, "relay", "")
	db.Exec(t, runCommand(t, nil, "", "grants", "--relay", role).ok().out)
	for _, c := range []struct{ what, near, full, lift string }{
		{"role", "ALTER ROLE %[1]q CONNECTION LIMIT 4", "ALTER ROLE %[1]q CONNECTION LIMIT 0", "ALTER ROLE %[1]q CONNECTION LIMIT"},
		{"database", "ALTER DATABASE %[2]q CONNECTION LIMIT 4", "ALTER DATABASE %[2]q CONNECTION LIMIT 0", "ALTER DATABASE %[2]q CONNECTION LIMIT"},
	} {
		t.Run(c.what, func(t *testing.T) {
			sql := func(text string) string { return fmt.Sprintf(text+"%[3]s", role, db.Name, "") }
			db.Exec(t, sql(c.near))
			doctorOn(t, db.RoleURL(role)).ok("warn connections", fmt.Sprintf("of 4 connections that %s", c.what), "may have are taken, a relay may take up to 10", "→ "+sql(c.lift))
			db.Exec(t, sql(c.full))
			doctorOn(t, db.RoleURL(role)).fails("1 check failed").has("fail connection", "too many connections for "+c.what, "→ "+sql(c.lift)).lacks("max_connections")
			db.Exec(t, sql(c.full)[:len(sql(c.full))-1]+"-1")
			doctorOn(t, db.RoleURL(role)).ok("ok connections")
		})
	}
}

// server answers a request for TLS as PostgreSQL does, with what answer does then.
func postgresOf(t *testing.T, answer func(conn net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(conn, make([]byte, 8)); err == nil { // SSLRequest
				answer(conn)
			}
			conn.Close()
		}
	}()
	return fmt.Sprintf("postgres://u@127.0.0.1:%d/db", l.Addr().(*net.TCPAddr).Port)
}

func TestDoctorOnTLS(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	config := &tls.Config{Certificates: web.TLS.Certificates}
	withTLS := postgresOf(t, func(conn net.Conn) {
		conn.Write([]byte("S"))
		tls.Server(conn, config).Handshake()
	})
	without := postgresOf(t, func(conn net.Conn) { conn.Write([]byte("N")) })
	old := postgresOf(t, func(conn net.Conn) {
		conn.Write([]byte("S"))
		tls.Server(conn, &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
	})
	for _, c := range []struct{ url, want string }{
		{withTLS + "?sslmode=verify-full", "→ TLS: nobody whom this host trusts has signed the server's certificate"},
		{without + "?sslmode=require", "→ TLS: the server has it off"},
		{old + "?sslmode=require", "→ TLS: the two sides do not agree"},
		{"postgres://u@127.0.0.1:1/db?sslmode=require", "→ check host and port"},
	} {
		doctorOn(t, c.url).fails("1 check failed").has("fail connection", c.want)
	}
	db := newDB(t)
	doctorOn(t, db.URL()+"&sslmode=require").fails("1 check failed").has("→ TLS: the server has it off")
}

// A stream that can never confirm a message is found; one that cannot be reached is the relay's to tell.
func TestDoctorOnStreams(t *testing.T) {
	t.Parallel()
	cluster, err := natstest.Start(t.Context(), natstest.Options{Servers: 1, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Stop()
	js, err := jetstream.New(cluster.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range []jetstream.StreamConfig{{Name: "GOOD", Subjects: []string{"good.>"}}, {Name: "SILENT", Subjects: []string{"silent.>"}, NoAck: true}} {
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	db := newDB(t)
	address := strings.TrimPrefix(strings.Split(cluster.URL(), ",")[0], "nats://")
	for name, query := range map[string]string{"good": "stream=GOOD&prefix=good.", "silent": "stream=SILENT&prefix=silent.", "lost": "stream=LOST&prefix=l.", "core": "core=1"} {
		db.Exec(t, "SELECT postrider.subscribe($1, '{>}', $2)", name, "nats://"+address+"?"+query)
	}
	db.Exec(t, "SELECT postrider.subscribe('away', '{>}', 'nats://127.0.0.1:1?stream=SILENT')")
	r := doctorOn(t, db.URL()).fails("2 checks failed").has(`fail destinations "silent": stream SILENT has no_ack set`, "→ nats stream edit SILENT --ack",
		`fail destinations "lost": stream LOST does not exist`, "→ nats stream add LOST --subjects 'l.>'")
	if n := strings.Count(r.out, "destinations"); n != 2 {
		t.Errorf("%d findings about destinations in\n%s", n, r.out)
	}
}
