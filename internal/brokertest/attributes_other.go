//go:build !linux

package brokertest

import "syscall"

// Attributes have nothing to say here.
func Attributes() *syscall.SysProcAttr { return nil }
