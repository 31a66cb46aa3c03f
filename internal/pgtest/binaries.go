package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/internal/apt"
)

// minMajor is the oldest PostgreSQL that Postrider supports.
const minMajor = 14

// envBinDir names the directory of the PostgreSQL programs, if it is set.
const envBinDir = "POSTRIDER_PG_BIN"

// binGlobs are the places where packages put the server's programs.
var binGlobs = []string{
	"/usr/lib/postgresql/*/bin",            // Debian, Ubuntu
	"/usr/pgsql-*/bin",                     // RPM
	"/opt/homebrew/opt/postgresql*/bin",    // Homebrew, Apple silicon
	"/usr/local/opt/postgresql*/bin",       // Homebrew, Intel
	"/usr/lib/postgresql*/bin",             // Alpine
	"/usr/local/pgsql/bin",                 // built from source
	"/Applications/Postgres.app/*/*/*/bin", // Postgres.app
}

// findBinDir returns a directory that holds initdb and postgres. An explicit
// directory, or the one in POSTRIDER_PG_BIN, is taken or refused, never passed
// over. As root on Debian it installs PostgreSQL if there is none.
func findBinDir(ctx context.Context, explicit string, log io.Writer) (string, error) {
	if explicit != "" {
		return explicit, checkBinDir(ctx, explicit)
	}
	if dir := os.Getenv(envBinDir); dir != "" {
		if err := checkBinDir(ctx, dir); err != nil {
			return "", fmt.Errorf("%s=%s: %w", envBinDir, dir, err)
		}
		return dir, nil
	}
	dir, err := searchBinDir(ctx)
	if err == nil || !apt.CanInstall() {
		return dir, err
	}
	return apt.InstallAndFind("PostgreSQL",
		func() (string, error) { return searchBinDir(ctx) },
		func() error { return apt.InstallPostgres(ctx, log) })
}

// Find returns the directory of the programs that tests will use. As root on Debian it installs them if there are none. Its error is one
// line, which names the command that installs them.
func Find(ctx context.Context, log io.Writer) (string, error) {
	dir, err := findBinDir(ctx, "", log)
	if err == nil {
		return dir, nil
	}
	if os.Getenv(envBinDir) != "" {
		return "", oneLine(err)
	}
	how := "install PostgreSQL's server"
	for _, m := range []struct{ program, install string }{
		{"apt-get", "apt-get install postgresql"}, {"dnf", "dnf install postgresql-server"}, {"apk", "apk add postgresql"},
		{"zypper", "zypper install postgresql-server"}, {"pacman", "pacman -S postgresql"}, {"brew", "brew install postgresql"},
	} {
		if _, err := exec.LookPath(m.program); err == nil {
			how = "`" + m.install + "` (as root) installs it"
			if m.program == "brew" {
				how = "`" + m.install + "` installs it"
			}
			break
		}
	}
	text := fmt.Sprintf("no PostgreSQL server %d or newer is here, which the tests need: %s; or set %s to the directory that holds initdb", minMajor, how, envBinDir)
	if apt.CanInstall() {
		text += fmt.Sprintf(" (tried: %v)", oneLine(err))
	}
	return "", errors.New(text)
}

func oneLine(err error) error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }

// searchBinDir returns the first usable directory of candidateDirs.
func searchBinDir(ctx context.Context) (string, error) {
	var errs []error
	for _, dir := range candidateDirs(ctx) {
		err := checkBinDir(ctx, dir)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return "", errors.Join(append([]error{fmt.Errorf(
		"no PostgreSQL server %d or newer found in PATH or in %s: install one, or set %s to the directory that holds initdb",
		minMajor, strings.Join(binGlobs, ", "), envBinDir)}, errs...)...)
}

// candidateDirs lists where the programs may be: PATH, pg_config's answer, then
// the usual places, the newest version first.
func candidateDirs(ctx context.Context) []string {
	var dirs []string
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(p))
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, glob := range binGlobs {
		found, err := filepath.Glob(glob)
		if err != nil {
			continue // only a malformed pattern fails
		}
		slices.SortStableFunc(found, func(a, b string) int { return pathVersion(b) - pathVersion(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

var (
	pathNumber    = regexp.MustCompile(`\d+`)
	versionNumber = regexp.MustCompile(`PostgreSQL\) (\d+)`)
)

// pathVersion is the last number in a path, or 0.
func pathVersion(path string) int {
	numbers := pathNumber.FindAllString(path, -1)
	if len(numbers) == 0 {
		return 0
	}
	n, err := strconv.Atoi(numbers[len(numbers)-1])
	if err != nil {
		return 0 // too large for a version
	}
	return n
}

// checkBinDir reports why dir cannot be used. The error wraps os.ErrNotExist
// when a program is missing.
func checkBinDir(ctx context.Context, dir string) error {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("no PostgreSQL server in %s: %w", dir, err)
		}
	}
	major, err := majorVersion(ctx, dir)
	if err != nil {
		return err
	}
	if major < minMajor {
		return fmt.Errorf("PostgreSQL %d in %s is too old: %d or newer is needed", major, dir, minMajor)
	}
	return nil
}

// majorVersion asks the server program in dir for its major version.
func majorVersion(ctx context.Context, dir string) (int, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("run %s --version: %w", cmd.Path, err)
	}
	m := versionNumber.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("run %s --version: no version in %q", cmd.Path, out)
	}
	return strconv.Atoi(string(m[1]))
}
