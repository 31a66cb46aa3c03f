package graphile

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	script  = "worker.mjs"
	minNode = 20 // package.json of graphile-worker wants 22.18; it runs on 20
)

// files are what a directory of packages begins with.
var (
	//go:embed package.json package-lock.json worker.mjs
	files     embed.FS
	fileNames = []string{"package.json", "package-lock.json", script}
)

// checkNode returns an error if Node.js or npm is missing or too old.
func checkNode(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "node", "--version").Output()
	if err == nil {
		_, err = exec.LookPath("npm")
	}
	if err != nil {
		return fmt.Errorf("graphile-worker needs Node.js %d or newer and npm: %w", minNode, err)
	}
	version := strings.TrimSpace(string(out))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < minNode {
		return fmt.Errorf("graphile-worker needs Node.js %d or newer, this is %q", minNode, version)
	}
	return nil
}

// installed returns a directory with worker.mjs and its packages. It installs them if there is none of these files.
func installed(ctx context.Context, log func(format string, args ...any)) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for npm packages: %w", err)
	}
	sum := sha256.New()
	for _, name := range fileNames {
		text, err := files.ReadFile(name)
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	parent := filepath.Join(cache, "postrider-bench")
	dir := filepath.Join(parent, fmt.Sprintf("graphile-%x", sum.Sum(nil)[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if log != nil {
		log("npm ci: installing graphile-worker into %s", dir)
	}
	if err := install(ctx, parent, dir); err != nil {
		return "", fmt.Errorf("install the npm packages of graphile-worker: %w", err)
	}
	return dir, nil
}

// install makes dir at once or not at all, so that whoever finds it finds it whole.
func install(ctx context.Context, parent, dir string) (err error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(parent, "graphile-new-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	for _, name := range fileNames {
		text, err := files.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(temp, name), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = temp
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	if err := os.Rename(temp, dir); err != nil {
		if _, there := os.Stat(dir); there == nil {
			return nil // somebody else was faster
		}
		return err
	}
	return nil
}
