package docs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// patience is how long a block may take, or what it is to print: far more than it needs.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	// A shell starts what it has in the background deaf to Ctrl-C, and so would be all that we start: whoever listens is no longer deaf, nor are
	// children of theirs.
	if signal.Ignored(syscall.SIGINT) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
	}
	pgtest.Main(m)
}

// told is a page whose blocks are run, one after another, as a reader would.
type told struct {
	page string
	// begins is what there is when the page begins.
	begins stage
	// setup is SQL, and after that commands, that make what the page takes for granted.
	setup, commands string
	// needs are programs, beside those of PostgreSQL, without which the page is skipped.
	needs []string
	// env are variables that the page takes for granted, in every terminal.
	env []string
}

// stage is what a page has to begin with.
type stage int

const (
	withSchema   stage = iota // the database shop, with the schema
	withDatabase              // the database shop, which is empty
	withServer                // a server
)

const (
	admin   = "postgres://postgres@localhost:5432/shop"
	billing = "SELECT postrider.subscribe('billing', '{payments.*}', 'https://billing.example/hooks')"
	jobs    = "SELECT postrider.subscribe(name, '{mail.*}', sink) FROM (VALUES ('mail', 'pull:'), ('search', 'pull:'), ('payments', 'sql:')) AS s (name, sink);" +
		"SELECT postrider.enqueue('orders.created', '{}') FROM generate_series(1, 16); SELECT postrider.enqueue('mail.reminder', '{}', key => 'customer-17') FROM generate_series(1, 2)"
	orders = "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint, total numeric)"
)

var toldPages = []told{
	{page: "../README.md", begins: withDatabase, setup: orders},
	{page: "start.md", begins: withServer, needs: []string{"python3"}},
	{page: "enqueue.md", setup: orders},
	{page: "adopt.md", env: []string{"POSTRIDER_DATABASE_URL=" + admin}, setup: "CREATE TABLE public.outboxevent (id uuid, aggregatetype text, aggregateid text, type text, payload jsonb);" +
		"CREATE TABLE public.jobs (kind text, args jsonb, run_at timestamptz, state text); CREATE TABLE public.events (id bigint, name text, entity_id bigint, data jsonb, sent_at timestamptz)"},
	{page: "running.md"},
	{page: "jobs-sql.md"},
	{page: "inbox.md", setup: "CREATE ROLE receiver LOGIN; CREATE ROLE owner LOGIN; GRANT CREATE ON DATABASE shop TO owner",
		commands: "postrider inbox install --database-url postgres://owner@receiver/shop"},
	{page: "operations.md", setup: billing + "; CREATE ROLE boss LOGIN CREATEROLE", commands: "createdb --maintenance-db=" + admin + " new; createdb --maintenance-db=" + admin + " --owner=boss cloud",
		env: []string{"POSTRIDER_DATABASE_URL=" + admin, "OLD=" + admin, "NEW=postgres://postgres@localhost:5432/new", "BOSS=postgres://boss@localhost:5432/cloud", "RELAY=postgres://relay@localhost:5432/cloud"}},
	{page: "jobs.md", setup: jobs, env: []string{"POSTRIDER_DATABASE_URL=" + admin}},
	{page: "schedules.md"},
	{page: "events.md"},
	{page: "subscriptions.md"},
	{page: "traces.md", env: []string{"POSTRIDER_DATABASE_URL=" + admin}},
	{page: "postgres.md", setup: "CREATE ROLE receiver LOGIN; CREATE ROLE owner LOGIN; CREATE SCHEMA shop", commands: "createdb --maintenance-db=" + admin + " --owner=owner events"},
	{page: "api.md", setup: billing, needs: []string{"curl"}, env: []string{"POSTRIDER_DATABASE_URL=" + admin}},
	{page: "deploy.md", begins: withDatabase, env: []string{"ADMIN=" + admin, "OWNER=postgres://postrider_owner@localhost:5432/shop", "OWNER_PASSWORD=one", "RELAY_PASSWORD=two"}},
	{page: "webhooks.md", needs: []string{"openssl"}},
}

// TestPages runs what the pages show. It takes a server of its own, whose roles and databases end with each page.
func TestPages(t *testing.T) {
	bin := buildProgram(t)
	server := pgtest.Servers(t, pgtest.Options{})
	for _, p := range toldPages {
		t.Run(strings.TrimSuffix(filepath.Base(p.page), ".md"), func(t *testing.T) {
			for _, program := range append(p.needs, "psql", "pg_dump") {
				if _, err := exec.LookPath(program); err != nil {
					t.Skip(program + " is not installed, so that " + p.page + " was not tried")
				}
			}
			blocks := pageBlocks(t, p.page)
			r := newReader(t, p, server, bin)
			for _, b := range blocks {
				if !b.has("not run") {
					r.run(b)
				}
			}
			r.endBackground()
		})
	}
}

// Every block of sh or sql is run, or says above it why not.
func TestEveryPageIsRun(t *testing.T) {
	run := make(map[string]bool)
	for _, p := range toldPages {
		run[p.page] = true
	}
	for _, page := range pages(t) {
		toRun := 0
		for _, b := range pageBlocks(t, page) {
			if !b.has("not run") {
				toRun++
			}
		}
		if run[page] != (toRun > 0) {
			t.Errorf("%s has %d blocks of sh or sql to run, and whether it is among the pages that are run: %t", page, toRun, run[page])
		}
	}
}

// buildProgram builds postrider and returns the directory that it is in.
func buildProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "postrider"), "./cmd/postrider")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// reader is somebody who types what a page shows: in one terminal, and whatever stays in the foreground in others.
type reader struct {
	t         testing.TB
	patience  time.Duration // how long to wait for what is to be printed
	told      told
	server    *pgtest.Server
	dir       string
	ports     map[string]string
	env       []string
	terminals []*terminal
	output    *output // of the terminals
	blocks    int
}

// Ports that pages name become free ones, 5432 that of the server. It is also every host that connection strings on pages make up.
var (
	portsOnPages = regexp.MustCompile(`\b(5432|8480|8481|8482|9000)\b`)
	hostsOnPages = regexp.MustCompile(`(postgres://\w+)@(receiver|warehouse|host)/`)
)

func newReader(t testing.TB, p told, server *pgtest.Server, bin string) *reader {
	t.Helper()
	r := &reader{t: t, patience: patience, told: p, server: server, dir: t.TempDir(), output: newOutput(), ports: map[string]string{"5432": fmt.Sprint(server.Port())}}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"bin": bin, "deploy": root + "/deploy", "examples": root + "/examples"} {
		if err := os.Symlink(to, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, port := range []string{"8480", "8481", "8482", "9000"} {
		r.ports[port] = freePort(t)
	}
	// Whoever reads has none of our variables.
	r.env = []string{"HOME=" + r.dir, "LANG=C.UTF-8", "PATH=" + strings.Join([]string{bin, server.BinDir(), os.Getenv("PATH")}, ":"),
		"POSTRIDER_HTTP_ADDR=127.0.0.1:" + r.ports["8480"]}
	for _, v := range p.env {
		r.env = append(r.env, r.here(v))
	}
	t.Cleanup(r.clear)
	t.Cleanup(r.endBackground)
	r.begin()
	return r
}

// here puts this test's hosts and ports in the place of those of the page.
func (r *reader) here(text string) string {
	text = hostsOnPages.ReplaceAllString(text, "$1@127.0.0.1:5432/")
	return portsOnPages.ReplaceAllStringFunc(text, func(port string) string { return r.ports[port] })
}

// begin makes the database that the page begins with.
func (r *reader) begin() {
	r.t.Helper()
	r.clear()
	if r.told.begins == withServer {
		return
	}
	r.exec("postgres", "CREATE DATABASE shop")
	if r.told.begins == withSchema {
		r.must("postrider migrate --database-url " + r.server.URL("shop"))
	}
	if r.told.setup != "" {
		r.exec("shop", r.told.setup)
	}
	if r.told.commands != "" {
		r.must(r.here(r.told.commands))
	}
}

// must runs commands that are no part of the page.
func (r *reader) must(commands string) {
	r.t.Helper()
	if out, err := r.command(commands, r.env).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v\n%s", commands, err, out)
	}
}

// clear removes all databases and roles but the server's own.
func (r *reader) clear() {
	r.t.Helper()
	// The slot of a relay that has ended goes as soon as the server knows.
	for deadline := time.Now().Add(patience); len(r.ask("SELECT slot_name FROM pg_replication_slots")) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("a replication slot has stayed")
		}
	}
	for _, db := range r.ask("SELECT quote_ident(datname) FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'") {
		r.exec("postgres", "DROP DATABASE "+db+" WITH (FORCE)")
	}
	for _, role := range r.ask("SELECT quote_ident(rolname) FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'") {
		r.exec("postgres", "DROP ROLE "+role)
	}
}

func (r *reader) connect(db string) (context.Context, *pgx.Conn) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	conn, err := pgx.Connect(ctx, r.server.URL(db))
	if err != nil {
		r.t.Fatal(err)
	}
	return ctx, conn
}

func (r *reader) exec(db, sql string) {
	r.t.Helper()
	ctx, conn := r.connect(db)
	_, err := conn.Exec(ctx, sql)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

func (r *reader) ask(sql string) []string {
	r.t.Helper()
	ctx, conn := r.connect("postgres")
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		r.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		r.t.Fatal(err)
	}
	return list
}

// run does what a block says, and sees that it does what the page says.
func (r *reader) run(b *block) {
	r.t.Helper()
	for _, text := range b.all("before") {
		r.endBackground()
		if text == beforeAnew {
			r.begin()
		}
	}
	if b.has("background") {
		r.start(b)
		return
	}
	mark := r.output.len()
	out, err := r.foreground(b)
	if err != nil {
		r.t.Fatalf("%s: ended with %v and printed:\n%s\n%s", b, err, out, r.background())
	}
	for _, want := range b.all("prints") {
		if !strings.Contains(out, r.here(want)) {
			r.t.Fatalf("%s: did not print %q, but:\n%s\n%s", b, want, out, r.background())
		}
	}
	for _, want := range b.all("elsewhere") {
		r.await(b, r.here(want), mark)
	}
}

// foreground runs a block to its end, again and again if it is to print something in time.
func (r *reader) foreground(b *block) (string, error) {
	r.t.Helper()
	deadline := time.Now().Add(r.patience)
	for {
		out, err := r.command(r.script(b), r.env).CombinedOutput()
		missing := ""
		for _, want := range b.all("in time") {
			if !strings.Contains(string(out), r.here(want)) {
				missing = want
			}
		}
		if missing == "" || err != nil {
			return string(out), err
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: did not print %q in time, but:\n%s\n%s", b, missing, out, r.background())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// script is what a shell has to run for a block. What one block exports the next one finds.
func (r *reader) script(b *block) string {
	r.t.Helper()
	r.blocks++
	name := fmt.Sprintf("%s/block-%d.%s", r.dir, r.blocks, b.language)
	if err := os.WriteFile(name, []byte(r.here(b.text)), 0o600); err != nil {
		r.t.Fatal(err)
	}
	switch {
	case b.language == "sql":
		role := strings.Join(append(b.all("as"), "postgres"), " ")
		role, _, _ = strings.Cut(role, " ")
		return fmt.Sprintf("psql -X -v ON_ERROR_STOP=1 -f %s postgres://%s@127.0.0.1:%d/shop", name, role, r.server.Port())
	case b.has("background"):
		return ". " + name
	}
	return fmt.Sprintf("if [ -e exported ]; then . ./exported; fi; . %s; export -p > exported", name)
}

// command is a shell that ends at the first error, in a process group of its own, which ends with it.
func (r *reader) command(script string, env []string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", script)
	cmd.Dir, cmd.Env, cmd.WaitDelay = r.dir, env, 10*time.Second
	inGroup(cmd)
	return cmd
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
