package workers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const (
	psycopg = "psycopg[binary]==3.2.10"
	nodePG  = "pg@8.16.3"
)

// installed returns a directory of the user's cache in which a driver was installed, now or before. Without it the test is skipped: whoever has no
// way to a registry of packages has no driver to try.
func installed(t *testing.T, name, example string, install func(ctx context.Context, dir string) error) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("there is no cache for %s, so that %s was not tried: %v", name, example, err)
	}
	parent := filepath.Join(cache, "postrider-examples")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(parent, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, name)
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return dir
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	err = errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755))
	if err == nil {
		err = install(ctx, dir)
	}
	if err != nil {
		t.Skipf("%s cannot be installed, so that %s was not tried: %v", name, example, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "complete"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pythonSQL returns the command of the example in Python, with psycopg in a virtual environment.
func pythonSQL(t *testing.T) (command []string, env []string) {
	const example = "python/sql_worker.py"
	needs(t, "python3", example)
	dir := installed(t, "psycopg-3.2.10", example, func(ctx context.Context, dir string) error {
		return errors.Join(run(ctx, dir, "python3", "-m", "venv", dir), run(ctx, dir, filepath.Join(dir, "bin", "pip"), "install", "--quiet", psycopg))
	})
	return []string{filepath.Join(dir, "bin", "python3"), example}, nil
}

// nodeSQL returns the command of the example in Node.js. Its packages are looked for beside it, so it stands in the directory of pg.
func nodeSQL(t *testing.T) (command []string, env []string) {
	const example = "node/sql-worker.mjs"
	needs(t, "node", example)
	needs(t, "npm", example)
	dir := installed(t, "pg-8.16.3", example, func(ctx context.Context, dir string) error {
		return run(ctx, dir, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", dir, nodePG)
	})
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.MkdirTemp(dir, "run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(own) })
	script := filepath.Join(own, "sql-worker.mjs")
	if err := os.WriteFile(script, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"node", script}, nil
}

func run(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}
