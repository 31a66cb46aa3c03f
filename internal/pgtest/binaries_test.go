package pgtest

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeBin makes a directory whose postgres only tells its version.
func fakeBin(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
	for _, name := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBinDirFromEnvironment(t *testing.T) {
	dir := fakeBin(t, "19beta1")
	t.Setenv(envBinDir, dir)
	if got, err := findBinDir(t.Context(), "", io.Discard); got != dir || err != nil {
		t.Errorf("found %s, %v", got, err)
	}
	if got, err := findBinDir(t.Context(), fakeBin(t, "14.1"), io.Discard); got == dir || err != nil {
		t.Errorf("the explicit directory did not win: %s, %v", got, err)
	}
}

func TestBinDirRefused(t *testing.T) {
	for dir, want := range map[string]string{
		"/nonexistent":       "no PostgreSQL server in /nonexistent",
		fakeBin(t, "13.4"):   "PostgreSQL 13 in",
		fakeBin(t, "unlike"): "no version in",
	} {
		t.Setenv(envBinDir, dir)
		_, err := findBinDir(t.Context(), "", io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), envBinDir+"="+dir) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
}

func TestPathWins(t *testing.T) {
	dir := fakeBin(t, "16.2")
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv(envBinDir, "")
	if got, err := findBinDir(t.Context(), "", io.Discard); got != dir || err != nil {
		t.Errorf("found %s, %v; want %s", got, err, dir)
	}
}

func TestNewestFirst(t *testing.T) {
	root := t.TempDir()
	for _, v := range []string{"9", "15", "16"} {
		if err := os.MkdirAll(filepath.Join(root, "postgresql", v, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	defer func(old []string) { binGlobs = old }(binGlobs)
	binGlobs = []string{filepath.Join(root, "postgresql", "*", "bin")}
	dirs := candidateDirs(t.Context())
	if got := dirs[len(dirs)-3:]; !strings.HasSuffix(got[0], "/16/bin") || !strings.HasSuffix(got[2], "/9/bin") {
		t.Errorf("order %v", got)
	}
}
