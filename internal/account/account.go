// Package account finds whom a server of PostgreSQL can run as, which root cannot be, and gives it what it needs.
package account

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Account is whom the server runs as. Its zero value is the current user.
type Account struct {
	uid, gid uint32
	set      bool
}

// OfServer returns the current user, or another one if that is root, as
// whom PostgreSQL refuses to run.
func OfServer() (Account, error) {
	if os.Geteuid() != 0 {
		return Account{}, nil
	}
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return Account{}, fmt.Errorf("user %s: %w", name, err)
		}
		return Account{uint32(uid), uint32(gid), true}, nil
	}
	return Account{}, fmt.Errorf("PostgreSQL refuses to run as root and there is nobody else: %w", errors.Join(errs...))
}

// SysProcAttr makes a child of that account in a session of its own.
func (a Account) SysProcAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a.set {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// Chown hands path to the account.
func (a Account) Chown(path string) error {
	if !a.set {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// DirVariable names the directory in which clusters are made, if it is set.
const DirVariable = "PGTEST_DIR"

// MakeDir makes the cluster's directory where the account can reach it: in
// $PGTEST_DIR, or else in $TMPDIR, /tmp or /var/tmp (root's TMPDIR may be closed to others).
func (a Account) MakeDir() (string, error) {
	var errs []error
	for _, parent := range []string{os.Getenv(DirVariable), os.TempDir(), "/tmp", "/var/tmp"} {
		if parent == "" {
			continue
		}
		if err := a.reaches(parent); err != nil {
			errs = append(errs, err)
			continue
		}
		dir, err := os.MkdirTemp(parent, "postrider-pg-")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return dir, a.Chown(dir)
	}
	return "", fmt.Errorf("make a directory for PostgreSQL: %w", errors.Join(errs...))
}

// reaches reports whether the account may pass through dir and its parents.
func (a Account) reaches(dir string) error {
	if !a.set {
		return nil
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !a.mayPass(info) {
			return fmt.Errorf("user %d may not enter %s (mode %v)", a.uid, dir, info.Mode())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// mayPass reports whether the account has the x bit of a directory.
func (a Account) mayPass(info os.FileInfo) bool {
	bit := os.FileMode(0o001)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		switch {
		case st.Uid == a.uid:
			bit = 0o100
		case st.Gid == a.gid:
			bit = 0o010
		}
	}
	return info.Mode()&bit != 0
}
