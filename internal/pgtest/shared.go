package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// installTimeout bounds the shared server's start: an installation may be part of it.
const installTimeout = startTimeout * 5

const templateName = "pgtest_template"

// cluster is the one that all tests of a binary share.
type cluster struct {
	mu       sync.Mutex
	tried    bool
	server   *Server
	err      error
	prepare  func(url string) error
	template string
}

var (
	shared  cluster
	counter atomic.Int64
)

// Template registers what every database of this test binary starts with, such
// as the migrations. The first New makes a template database and calls prepare on
// it, once; each database is then a copy of it, which takes some ten
// milliseconds. prepare must close its connections. Call Template before the first
// New, best in TestMain; a later or second call panics.
func Template(prepare func(url string) error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.tried || shared.prepare != nil {
		panic("pgtest.Template: called twice, or after the first New")
	}
	shared.prepare = prepare
}

// New returns a database of the test's own: a copy of the template if there is
// one, else empty. It lives in the shared cluster, which the first call starts, and
// is dropped when the test ends.
func New(t testing.TB) *DB {
	t.Helper()
	return newDB(t, true)
}

// Empty is New without the template.
func Empty(t testing.TB) *DB {
	t.Helper()
	return newDB(t, false)
}

// Encoded is Empty in another encoding, such as LATIN1 or SQL_ASCII.
func Encoded(t testing.TB, encoding string) *DB {
	t.Helper()
	server, _, err := shared.get()
	if err != nil {
		t.Fatalf("no PostgreSQL for the test: %v", err)
	}
	return server.Encoded(t, encoding)
}

// Encoded is NewDB in another encoding.
func (s *Server) Encoded(t testing.TB, encoding string) *DB {
	t.Helper()
	return s.newDB(t, "template0", "ENCODING "+quote(encoding)+" LC_COLLATE 'C' LC_CTYPE 'C'")
}

func newDB(t testing.TB, templated bool) *DB {
	t.Helper()
	server, template, err := shared.get()
	if err != nil {
		t.Fatalf("no PostgreSQL for the test: %v", err)
	}
	if !templated {
		template = "template0"
	}
	return server.newDB(t, template)
}

// newDB copies template into a database that lives as long as the test.
func (s *Server) newDB(t testing.TB, template string, options ...string) *DB {
	t.Helper()
	db := &DB{Server: s, Name: uniqueName(t.Name())}
	if err := s.create(t.Context(), db.Name, template, options); err != nil {
		t.Fatalf("create the test's database: %v\n%s", err, s.LogTail(10))
	}
	t.Cleanup(func() {
		ctx, cancel := cleanupContext()
		defer cancel()
		if err := db.drop(ctx); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return db
}

// create copies files as they are. From 15 on a server would write all of them to the log instead, unless it is told not to, which takes
// three times the processor time; before, it knew no other way.
func (s *Server) create(ctx context.Context, name, template string, options []string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	sql := "CREATE DATABASE " + quote(name) + " TEMPLATE " + quote(template) + " " + strings.Join(options, " ")
	var major int
	if _, err := fmt.Sscan(conn.PgConn().ParameterStatus("server_version"), &major); err == nil && major >= 15 {
		sql += " STRATEGY file_copy"
	}
	_, err = conn.Exec(ctx, sql)
	closeCtx, cancel := cleanupContext()
	defer cancel()
	return errors.Join(err, conn.Close(closeCtx))
}

// New is the package's New in a cluster that the test started itself: the first call prepares a template there.
func (s *Server) New(t testing.TB) *DB {
	t.Helper()
	shared.mu.Lock()
	prepare := shared.prepare
	shared.mu.Unlock()
	if prepare == nil {
		return s.NewDB(t)
	}
	s.template.Lock()
	defer s.template.Unlock()
	if !s.templated {
		if err := s.makeTemplate(t.Context(), prepare); err != nil {
			t.Fatalf("prepare the template database: %v", err)
		}
		s.templated = true
	}
	return s.newDB(t, templateName)
}

// NewDB returns an empty database in a cluster that the test started itself.
func (s *Server) NewDB(t testing.TB) *DB {
	t.Helper()
	return s.newDB(t, "template0")
}

// Servers starts a cluster for one test alone, stopped when the test ends. If the
// test failed, the end of the server's log is shown.
func Servers(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, "the server", s)
	return s
}

// Standbys is [Server.Standby] for one test alone, as [Servers] is Start.
func Standbys(t testing.TB, primary *Server, o Options) *Server {
	t.Helper()
	s, err := primary.Standby(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, "the standby", s)
	return s
}

// Bouncers is [StartBouncer] for one test alone.
func Bouncers(t testing.TB, s *Server, o BouncerOptions) *Bouncer {
	t.Helper()
	b, err := StartBouncer(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, "PgBouncer", b)
	return b
}

// stopAfter stops s when the test ends, and shows its log if the test failed.
func stopAfter(t testing.TB, name string, s interface {
	Stop() error
	LogTail(n int) string
}) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s ends with:\n%s", name, s.LogTail(30))
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// Main runs the tests of a package, stops the shared cluster and, if all passed,
// looks for leaked goroutines. Clusters are in memory if there is plenty, see [InMemory]. It does not return.
func Main(m *testing.M, opts ...goleak.Option) { os.Exit(Run(m, opts...)) }

// Run is Main for a package that has something to clean up itself. It returns the status to exit with.
func Run(m *testing.M, opts ...goleak.Option) int {
	err := InMemory()
	code := m.Run()
	err = errors.Join(err, shared.stop())
	if code == 0 {
		err = errors.Join(err, goleak.Find(opts...))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// get starts the cluster at the first call. A failure is final, so that a hundred
// tests do not each wait for it.
func (c *cluster) get() (s *Server, template string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tried {
		c.tried = true
		c.err = c.start()
	}
	return c.server, c.template, c.err
}

func (c *cluster) start() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	if c.server, err = Start(ctx, Options{Log: os.Stderr}); err != nil {
		return err
	}
	c.template = "template0"
	if c.prepare == nil {
		return nil
	}
	if err := c.server.makeTemplate(ctx, c.prepare); err != nil {
		return fmt.Errorf("prepare the template database: %w", err)
	}
	c.template = templateName
	return nil
}

// makeTemplate prepares the template and then closes it to connections: copying
// waits until nobody is connected to the original.
func (s *Server) makeTemplate(ctx context.Context, prepare func(url string) error) error {
	admin := s.URL("postgres")
	if err := exec1(ctx, admin, "CREATE DATABASE "+templateName+" TEMPLATE template0"); err != nil {
		return err
	}
	if err := prepare(s.URL(templateName)); err != nil {
		return err
	}
	return exec1(ctx, admin, "ALTER DATABASE "+templateName+" ALLOW_CONNECTIONS false")
}

func (c *cluster) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return nil
	}
	return c.server.Stop()
}

// uniqueName makes a name for a database or a role from prefix: lower case, safe
// without quotes, within PostgreSQL's 63 bytes.
func uniqueName(prefix string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, prefix)
	return fmt.Sprintf("t_%.40s_%d", clean, counter.Add(1))
}

// At returns the database of a name in a server, for one that came by other means than [New]. Nobody drops it.
func (s *Server) At(name string) *DB { return &DB{Server: s, Name: name} }
