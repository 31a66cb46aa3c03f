package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/postrider/postrider/internal/apt"
)

// find returns Debian's Chromium or another one that is there.
func find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no Chromium is installed: `apt-get install chromium` installs it")
}

// Find returns a browser, installed if need be; the test is skipped where there is none.
func Find(t testing.TB) string {
	t.Helper()
	path, err := find()
	if err != nil && apt.CanInstall() {
		path, err = apt.InstallAndFind("Chromium", find, func() error { return apt.Install(context.Background(), os.Stderr, "chromium", "fonts-dejavu-core") })
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

// axeVersion is the version of axe-core that judges pages.
const axeVersion = "4.14.1"

// axe returns the text of axe-core, from the user's cache if it is there. A folder that is half filled is not taken for a full one: it
// gets its name last.
func axe(t testing.TB) string {
	t.Helper()
	text, err := fetchAxe(t.Context())
	if err != nil {
		t.Skip(err)
	}
	return text
}

func fetchAxe(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for axe-core: %w", err)
	}
	parent := filepath.Join(cache, "postrider-axe")
	dir := filepath.Join(parent, axeVersion)
	file := filepath.Join(dir, "node_modules", "axe-core", "axe.min.js")
	if text, err := os.ReadFile(file); err == nil {
		return string(text), nil
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return "", errors.New("axe-core is fetched with npm, which is not installed: `apt-get install npm` installs it")
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(parent, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	cmd := exec.CommandContext(ctx, "npm", "install", "--prefix", fresh, "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error", "axe-core@"+axeVersion)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install axe-core@%s: %w\n%s", axeVersion, err, out)
	}
	if err := os.Rename(fresh, dir); err != nil {
		if _, there := os.Stat(file); there != nil { // nobody else was faster
			return "", err
		}
	}
	text, err := os.ReadFile(file)
	return string(text), err
}
