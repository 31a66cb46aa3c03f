// Package pgtest runs a throw-away PostgreSQL for tests and for the demo.
//
// A [Server] is a private cluster in a temporary directory (tests: in memory, see [InMemory]), reachable on a free
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
// # Faults
//
// What a test can do to a server, and what the world would call it:
//
//	Restart(ctx, "fast")       an orderly restart
//	Restart(ctx, "immediate")  a crash, and recovery
//	Kill, then Restart         the machine loses its power, and comes back
//	Pause, then Resume         the machine hangs: connections stay open and nobody answers
//	KillBackend, AwaitReady    one backend dies, and PostgreSQL ends and recovers all
//
// [Server.Standby] makes a streaming standby of a running server, and
// [Server.Promote] makes a primary of it. It is a server like any other and takes
// the same faults. [StartBouncer] puts a PgBouncer before a server.
//
// Pause has to know all children of the postmaster, which are sessions of their
// own: it stops the postmaster, so that there will be no more, and then looks at
// the process table (/proc, or else ps). The watchdog learns who is stopped and
// lets them go on before it ends them. fsync is off, and a crash here is one of
// PostgreSQL and not of the kernel: what was written stays written.
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
// restarts the server, takes a cluster of its own with [Servers], a standby
// with [Standbys]. A PgBouncer ([Bouncers]) also goes before the shared cluster.
package pgtest
