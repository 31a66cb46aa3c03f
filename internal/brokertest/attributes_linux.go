package brokertest

import "syscall"

// Attributes have a process end with this one, also when a test's time is over.
func Attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
