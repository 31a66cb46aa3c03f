package dberr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

func server(code string) error {
	return &pgconn.PgError{Severity: "ERROR", Code: code, Message: "message " + code}
}

func TestAway(t *testing.T) {
	for _, c := range []struct {
		err  error
		away bool
		kind string
	}{
		{server("57P01"), true, "away"}, {server("57P03"), true, "away"}, {server("53300"), true, "53300"}, {server("08006"), true, "08006"},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true, "away"}, {&net.OpError{Op: "read", Err: errors.New("reset")}, true, "away"},
		{server("57014"), false, "57014"}, {server("54000"), false, "54000"}, {server("42P01"), false, "42P01"},
		{errors.New("a row has another format"), false, "away"},
		{fmt.Errorf("a: %w", errors.Join(server("57P03"), &Standby{})), true, "standby"},
		{errors.Join(server("28P01"), server("28P01"), server("57P03")), false, "28P01"},
	} {
		if away, kind := Away(c.err), Kind(c.err); away != c.away || kind != c.kind {
			t.Errorf("%v: away %t, kind %s", c.err, away, kind)
		}
	}
	if got := Codes(fmt.Errorf("a: %w", errors.Join(server("1"), fmt.Errorf("b: %w", server("2"))))); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("codes %v", got)
	}
}

// refusing is a server that has no TLS and answers every start with an error.
func refusing(t *testing.T, code, message string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			client := pgproto3.NewBackend(conn, conn)
			if m, err := client.ReceiveStartupMessage(); err == nil {
				if _, tls := m.(*pgproto3.SSLRequest); tls {
					conn.Write([]byte("N"))
				} else {
					client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
					client.Flush()
				}
			}
			conn.Close()
		}
	}()
	return l.Addr().String()
}

// Of all ways to connect the one that says most comes first, and a refusal of TLS by a server that said more is left out.
func TestCause(t *testing.T) {
	wrong := refusing(t, "28P01", "password authentication failed")
	starting := refusing(t, "57P03", "the database system is starting up")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	for _, c := range []struct {
		hosts string
		order []string
		lacks string
	}{
		{wrong, []string{"password authentication failed"}, "TLS"},
		{gone + "," + wrong, []string{"password authentication failed", "connection refused"}, "TLS"},
		{starting + "," + wrong, []string{"password authentication failed", "starting up"}, "TLS"},
		{gone + "," + starting, []string{"starting up", "connection refused"}, "TLS"},
	} {
		_, err := pgconn.Connect(context.Background(), "postgres://u:geheim@"+c.hosts+"/d?sslmode=prefer")
		if err == nil {
			t.Fatal("connected")
		}
		text := Cause(fmt.Errorf("stream: %w", err))
		at := -1
		for _, words := range c.order {
			next := strings.Index(text, words)
			if next <= at {
				t.Errorf("%s: %q is not where it should be in: %s", c.hosts, words, text)
			}
			at = next
		}
		if strings.Contains(text, c.lacks) || strings.Contains(text, "\n") || strings.Contains(text, "geheim") || !strings.HasPrefix(text, "stream: ") || !Away(err) {
			t.Errorf("%s: %s", c.hosts, text)
		}
	}
}
