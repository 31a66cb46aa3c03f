package main

import (
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// pooler stands between clients and PostgreSQL as poolers do: it greets clients itself, with a process id that it made up,
// and hands out server connections. In transaction mode all clients take turns on one of them.
type pooler struct {
	connect     func() (*pgproto3.Frontend, error)
	transaction bool

	mu     sync.Mutex // held while a client has the shared connection
	shared *pgproto3.Frontend
}

// startPooler returns the address of a pooler in front of url.
func startPooler(t *testing.T, url string, transaction bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	p := &pooler{transaction: transaction, connect: func() (*pgproto3.Frontend, error) {
		conn, err := pgconn.Connect(t.Context(), url)
		if err != nil {
			return nil, err
		}
		server, err := conn.Hijack()
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { server.Conn.Close() })
		return server.Frontend, nil
	}}
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer client.Close()
				if err := p.serve(client); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Logf("pooler: %v", err)
				}
			})
		}
	})
	return l.Addr().String()
}

func (p *pooler) serve(conn net.Conn) error {
	client := pgproto3.NewBackend(conn, conn)
	if _, err := client.ReceiveStartupMessage(); err != nil {
		return err
	}
	client.Send(&pgproto3.AuthenticationOk{})
	client.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	client.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	client.Send(&pgproto3.BackendKeyData{ProcessID: 4000000000, SecretKey: []byte{1, 2, 3, 4}})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := client.Flush(); err != nil {
		return err
	}
	var own *pgproto3.Frontend
	for {
		m, err := client.Receive()
		if err != nil {
			return err
		}
		if _, bye := m.(*pgproto3.Terminate); bye {
			return nil
		}
		if own == nil {
			if own, err = p.take(); err != nil {
				return err
			}
		}
		own.Send(m)
		switch m.(type) {
		case *pgproto3.Sync, *pgproto3.Query:
		default:
			continue
		}
		status, err := answer(own, client)
		if err != nil {
			return err
		}
		if p.transaction && status == 'I' {
			own = nil
			p.mu.Unlock()
		}
	}
}

// take returns a server connection: the shared one, once it is free, or one for this client alone.
func (p *pooler) take() (server *pgproto3.Frontend, err error) {
	if !p.transaction {
		return p.connect()
	}
	p.mu.Lock()
	if p.shared == nil {
		p.shared, err = p.connect()
	}
	return p.shared, err
}

// answer passes the server's messages on until it is ready for the next query.
func answer(server *pgproto3.Frontend, client *pgproto3.Backend) (txStatus byte, err error) {
	if err := server.Flush(); err != nil {
		return 0, err
	}
	for {
		m, err := server.Receive()
		if err != nil {
			return 0, err
		}
		client.Send(m)
		if ready, ok := m.(*pgproto3.ReadyForQuery); ok {
			return ready.TxStatus, client.Flush()
		}
	}
}

func TestDoctorSeesPoolers(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	url := func(transaction bool) string {
		config, err := pgx.ParseConfig(db.URL())
		if err != nil {
			t.Fatal(err)
		}
		return "postgres://" + config.User + "@" + startPooler(t, db.URL(), transaction) + "/" + db.Name + "?sslmode=disable"
	}
	doctorOn(t, url(false)).ok("note pooler a pooler in session mode, or a proxy, sits in between")
	transaction := url(true)
	doctorOn(t, transaction).ok("note pooler a pooler in transaction mode", "→ for streaming, connect the relay to PostgreSQL itself")
	doctorOn(t, transaction, "POSTRIDER_FOLLOW=timer").ok("ok pooler a pooler in transaction mode")
	doctorOn(t, transaction, "POSTRIDER_FOLLOW=stream").fails("failed").has("fail pooler a pooler in transaction mode")
	doctorOn(t, transaction, "POSTRIDER_FOLLOW=listen").fails("failed").has("fail pooler", "LISTEN does not pass")

	// The commands work through it.
	on(t, transaction, "subs", "apply", writeFile(t, twoSubscriptions)).ok("billing created")
	on(t, transaction, "subs", "apply", writeFile(t, twoSubscriptions)).ok("billing unchanged")
	on(t, transaction, "enqueue", "orders.created").ok()
	on(t, transaction, "status").ok("billing active")
}
