package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

const (
	aptGet        = "/usr/bin/apt-get"
	aptLock       = "/run/postrider-pgtest.lock"
	createCluster = "/etc/postgresql-common/createcluster.conf"
)

// canInstall reports whether this is root on Debian or one of its relatives.
func canInstall() bool {
	_, err := os.Stat(aptGet)
	return err == nil && os.Geteuid() == 0
}

// installAndFind installs PostgreSQL and returns its directory. Test binaries
// run side by side, so a lock lets one of them install and the others find.
func installAndFind(ctx context.Context, log io.Writer) (dir string, err error) {
	lock, err := os.OpenFile(aptLock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("install PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("install PostgreSQL: lock %s: %w", aptLock, err)
	}
	if dir, err := searchBinDir(ctx); err == nil {
		return dir, nil
	}
	if err := aptInstall(ctx, log); err != nil {
		return "", fmt.Errorf("install PostgreSQL: %w", err)
	}
	return searchBinDir(ctx)
}

// aptInstall installs the programs alone. Debian's server package creates and
// starts a cluster "main" unless createcluster.conf says otherwise; that file
// comes with postgresql-common, which therefore goes first.
func aptInstall(ctx context.Context, log io.Writer) error {
	logf(log, "no PostgreSQL found: installing it with apt-get")
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
func runApt(ctx context.Context, log io.Writer, verb string, packages ...string) error {
	args := append([]string{"-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120", verb}, packages...)
	cmd := exec.CommandContext(ctx, aptGet, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	var out bytes.Buffer
	cmd.Stdout = io.MultiWriter(&out, log)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", verb, err, lastLines(out.Bytes(), 20))
	}
	return nil
}
