//go:build !linux

package rabbittest

import "syscall"

// attributes have nothing to say here.
func attributes() *syscall.SysProcAttr { return nil }
