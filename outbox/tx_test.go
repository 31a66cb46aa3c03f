package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/outbox"
)

// callers are Go code; the compiler must refuse the lines that say so, and take all others.
const callers = `package callers

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/outbox"
)

func call(ctx context.Context, pool *pgxpool.Pool, pooled *pgxpool.Conn, conn *pgx.Conn, poolTx *pgxpool.Tx, tx pgx.Tx, db *sql.DB, sqlConn *sql.Conn, sqlTx *sql.Tx) {
	var m outbox.Message
	_, _ = outbox.Enqueue(ctx, pool, m) // refused
	_, _ = outbox.Enqueue(ctx, pooled, m) // refused
	_, _ = outbox.Enqueue(ctx, conn, m) // refused
	_, _ = outbox.EnqueueBatch(ctx, pool, nil) // refused
	_, _ = outbox.EnqueueBatch(ctx, conn, nil) // refused
	_, _ = outbox.EnqueueSQL(ctx, db, m) // refused
	_, _ = outbox.EnqueueSQL(ctx, sqlConn, m) // refused
	_, _ = outbox.EnqueueBatchSQL(ctx, db, nil) // refused
	_, _ = outbox.EnqueueBatchSQL(ctx, sqlConn, nil) // refused
	_, _ = outbox.Enqueue(ctx, tx, m)
	_, _ = outbox.Enqueue(ctx, poolTx, m)
	_, _ = outbox.Enqueue(ctx, outbox.Begun(conn), m)
	_, _ = outbox.EnqueueBatch(ctx, tx, nil)
	_, _ = outbox.EnqueueSQL(ctx, sqlTx, m)
	_, _ = outbox.EnqueueSQL(ctx, struct{ *sql.Tx }{sqlTx}, m) // as sqlx and the like wrap it
	_, _ = outbox.EnqueueSQL(ctx, outbox.BegunSQL(sqlConn), m)
	_, _ = outbox.EnqueueBatchSQL(ctx, sqlTx, nil)
}
`

func TestOnlyTransactionsCompile(t *testing.T) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "callers.go", callers, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]string{}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", exported(t)), Error: func(err error) {
		e := err.(types.Error)
		got[e.Fset.Position(e.Pos).Line] = e.Msg
	}}
	if _, err := config.Check("callers", fset, []*ast.File{file}, nil); err == nil {
		t.Error("all of it compiles")
	}
	for i, line := range strings.Split(callers, "\n") {
		message, refused := got[i+1]
		if refused != strings.HasSuffix(line, "// refused") || refused && !strings.Contains(message, "missing method Commit") {
			t.Errorf("%s\n\tthe compiler says %q", strings.TrimSpace(line), message)
		}
	}
}

// exported finds what the compiler knows of a package.
func exported(t *testing.T) func(path string) (io.ReadCloser, error) {
	t.Helper()
	list := goList(t, "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".", "github.com/jackc/pgx/v5/pgxpool", "database/sql")
	files := map[string]string{}
	for _, line := range list {
		path, file, _ := strings.Cut(line, " ")
		files[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// An application that takes package outbox gets pgx with it, and nothing else.
func TestImports(t *testing.T) {
	const own = "github.com/postrider/postrider/outbox"
	for _, line := range goList(t, "-deps", "-f", `{{if not .Standard}}{{.ImportPath}} {{join .Imports " "}}{{end}}`, "./...") {
		path, imports, _ := strings.Cut(line, " ")
		if path != own && !strings.HasPrefix(path, own+"/") {
			continue // pgx, and what it takes
		}
		for _, i := range strings.Fields(imports) {
			first, _, _ := strings.Cut(i, "/")
			if strings.Contains(first, ".") && i != own && !strings.HasPrefix(i, own+"/") && !strings.HasPrefix(i, "github.com/jackc/pgx/v5") {
				t.Errorf("%s imports %s", path, i)
			}
		}
	}
}

func TestBegun(t *testing.T) {
	db, url := newDB(t)
	conn := connect(t, url)
	m := outbox.Message{Topic: "a", Payload: 1}
	tx := outbox.Begun(conn)
	enqueue := func() error { _, err := outbox.Enqueue(t.Context(), tx, m); return err }
	batch := func() error { _, err := outbox.EnqueueBatch(t.Context(), tx, []outbox.Message{m, m}); return err }
	commit := func() error { return tx.Commit(t.Context()) }
	rollback := func() error { return tx.Rollback(t.Context()) }
	run := func(sql string) func() error {
		return func() error { _, err := conn.Exec(t.Context(), sql); return err }
	}
	play(t, func() int { return len(messages(t, db)) }, []step{
		{"nothing begun", enqueue, "no transaction is open", 0},
		{"nothing begun, batch", batch, "no transaction is open", 0},
		{"nothing to commit", commit, "no transaction is open", 0},
		{"nothing to roll back", rollback, "no transaction is open", 0},
		{"begin", run("BEGIN"), "", 0},
		{"enqueue", enqueue, "", 0},
		{"batch", batch, "", 0},
		{"commit", commit, "", 3},
		{"after the commit", enqueue, "no transaction is open", 3},
		{"begin again", run("BEGIN"), "", 3},
		{"enqueue again", enqueue, "", 3},
		{"roll back", rollback, "", 3},
		{"begin for a failure", run("BEGIN"), "", 3},
		{"enqueue before a failure", enqueue, "", 3},
		{"failure", run("SELECT 1/0"), "division by zero", 3},
		{"enqueue after a failure", enqueue, "25P02", 3},
		{"commit after a failure", commit, "rollback", 3},
		{"commit after that", commit, "no transaction is open", 3},
	})
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := enqueue(); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("on a closed connection: %v", err)
	}
}

func TestBegunSQL(t *testing.T) {
	db, url := newDB(t)
	pool, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	}()
	conn, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := outbox.Message{Topic: "a", Payload: 1}
	tx := outbox.BegunSQL(conn)
	enqueue := func() error { _, err := outbox.EnqueueSQL(t.Context(), tx, m); return err }
	batch := func() error { _, err := outbox.EnqueueBatchSQL(t.Context(), tx, []outbox.Message{m, m}); return err }
	run := func(sql string) func() error {
		return func() error { _, err := conn.ExecContext(t.Context(), sql); return err }
	}
	play(t, func() int { return len(messages(t, db)) }, []step{
		{"nothing begun", enqueue, "no usable transaction is open", 0},
		{"nothing begun, batch", batch, "no usable transaction is open", 0},
		{"nothing to commit", tx.Commit, "no usable transaction is open", 0},
		{"begin", run("BEGIN"), "", 0},
		{"enqueue", enqueue, "", 0},
		{"batch", batch, "", 0},
		{"commit", tx.Commit, "", 3},
		{"after the commit", enqueue, "no usable transaction is open", 3},
		{"begin again", run("BEGIN"), "", 3},
		{"enqueue again", enqueue, "", 3},
		{"roll back", tx.Rollback, "", 3},
		{"begin for a failure", run("BEGIN"), "", 3},
		{"failure", run("SELECT 1/0"), "division by zero", 3},
		{"enqueue after a failure", enqueue, "25P02", 3},
		{"commit after a failure", tx.Commit, "25P02", 3},
		{"roll back the failure", tx.Rollback, "", 3},
	})
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// step is something to do, what its error says, and how many messages others see then.
type step struct {
	name string
	do   func() error
	want string
	seen int
}

func play(t *testing.T, count func() int, steps []step) {
	t.Helper()
	for _, s := range steps {
		err := s.do()
		if (err == nil) != (s.want == "") || err != nil && !strings.Contains(err.Error(), s.want) {
			t.Errorf("%s: got error %v, want %q", s.name, err, s.want)
		}
		if n := count(); n != s.seen {
			t.Errorf("%s: others see %d messages, want %d", s.name, n, s.seen)
		}
	}
}

// A transaction that is over takes nothing any more.
func TestEndedTransaction(t *testing.T) {
	db, url := newDB(t)
	tx := begin(t, connect(t, url))
	if err := tx.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := outbox.Enqueue(t.Context(), tx, outbox.Message{Topic: "a", Payload: 1}); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("got %v", err)
	}
	if n := len(messages(t, db)); n != 0 {
		t.Errorf("%d messages were stored", n)
	}
}
