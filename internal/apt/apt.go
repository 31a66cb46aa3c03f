// Package apt installs the servers that tests and the demo need, as root on Debian and its relatives, and starts none of them.
package apt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

const (
	aptGet        = "/usr/bin/apt-get"
	aptLock       = "/run/postrider-pgtest.lock"
	createCluster = "/etc/postgresql-common/createcluster.conf"
)

// CanInstall reports whether this is root on Debian or one of its relatives.
func CanInstall() bool {
	_, err := os.Stat(aptGet)
	return err == nil && os.Geteuid() == 0
}

// InstallAndFind installs what find did not find, and returns what it finds then.
// Test binaries run side by side, so a lock lets one of them install and the
// others find.
func InstallAndFind(name string, find func() (string, error), install func() error) (path string, err error) {
	lock, err := os.OpenFile(aptLock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("install %s: lock %s: %w", name, aptLock, err)
	}
	if path, err := find(); err == nil {
		return path, nil
	}
	if err := install(); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	return find()
}

// InstallPostgres installs the programs alone. Debian's server package creates and
// starts a cluster "main" unless createcluster.conf says otherwise; that file
// comes with postgresql-common, which therefore goes first.
func InstallPostgres(ctx context.Context, log io.Writer) error {
	say(log, "no PostgreSQL found: installing it with apt-get")
	updateErr := runApt(ctx, log, "update") // stale lists may still do
	if err := runApt(ctx, log, "install", "postgresql-common"); err != nil {
		return errors.Join(err, updateErr)
	}
	restore, err := withoutMainCluster()
	if err != nil {
		return err
	}
	return errors.Join(runApt(ctx, log, "install", "postgresql"), restore())
}

// InstallWithoutService installs a package without its service of that name, which the package would
// start: what has no unit and no init script is not started.
func InstallWithoutService(ctx context.Context, log io.Writer, name, service string) error {
	say(log, "no "+name+" found: installing it with apt-get")
	updateErr := runApt(ctx, log, "update")
	var args []string
	for _, dir := range []string{"/etc/init.d/", "/lib/systemd/system/", "/usr/lib/systemd/system/"} {
		args = append(args, "-o", "Dpkg::Options::=--path-exclude="+dir+service+"*")
	}
	if err := runApt(ctx, log, "install", append(args, service)...); err != nil {
		return errors.Join(err, updateErr)
	}
	return nil
}

// Install installs packages that start nothing.
func Install(ctx context.Context, log io.Writer, packages ...string) error {
	say(log, "no "+packages[0]+" found: installing it with apt-get")
	updateErr := runApt(ctx, log, "update")
	if err := runApt(ctx, log, "install", packages...); err != nil {
		return errors.Join(err, updateErr)
	}
	return nil
}

// withoutMainCluster switches the cluster "main" off until restore is called,
// which puts the file back as it was.
func withoutMainCluster() (restore func() error, err error) {
	before, err := os.ReadFile(createCluster)
	if err != nil {
		return nil, err
	}
	after := append(bytes.Clone(before), "\ncreate_main_cluster = false\n"...)
	restore = func() error { return os.WriteFile(createCluster, before, 0o644) }
	if err := os.WriteFile(createCluster, after, 0o644); err != nil {
		return nil, errors.Join(err, restore())
	}
	return restore, nil
}

// runApt runs apt-get without questions. The error carries its output.
func runApt(ctx context.Context, log io.Writer, verb string, more ...string) error {
	args := append([]string{"-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120", verb}, more...)
	cmd := exec.CommandContext(ctx, aptGet, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	var out bytes.Buffer
	cmd.Stdout = &out
	if log != nil {
		cmd.Stdout = io.MultiWriter(&out, log)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", verb, err, lastLines(out.String(), 20))
	}
	return nil
}

func say(log io.Writer, text string) {
	if log != nil {
		fmt.Fprintln(log, text)
	}
}

// lastLines returns at most n lines from the end of text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
