// Package pgtest runs a throw-away PostgreSQL for tests and for the demo.
//
// A [Server] is a private cluster in a temporary directory, reachable on a free
// loopback port. Nothing of it outlives the process that started it:
//
//	this process ──fork──▶ postmaster ──▶ backends
//	     │                     ▲
//	     └──pipe──▶ watchdog ──┘ SIGQUIT, then rm -rf
//
// The watchdog is a /bin/sh that reads from a pipe whose other end only this
// process holds. [Server.Stop] tells it to leave; when the pipe closes without
// that (a kill -9, a panic, an os.Exit), it ends the postmaster and removes the
// directory. Both children have a session of their own, so that a Ctrl-C in a
// terminal reaches neither: whoever called Start decides when the server stops.
//
// Start starts no goroutine that stays. The postmaster is reaped by polling, so
// a leak detector finds nothing to complain about while a server runs.
//
// # Tests
//
// [New] gives each test a database of its own in one cluster per test binary:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestX(t *testing.T) {
//		db := pgtest.New(t)
//		db.Exec(t, `CREATE TABLE t (id bigint)`)
//	}
//
// Three things are shared by all databases of a cluster, and thus by parallel
// tests: roles (use [DB.Role], which makes unique names), replication slots (of
// which there are 20) and transaction ids: an open transaction of another test
// shows up in pg_current_snapshot() and delays the creation of any slot. A test that cannot live with this, or that
// restarts the server, takes a cluster of its own with [Servers].
package pgtest
