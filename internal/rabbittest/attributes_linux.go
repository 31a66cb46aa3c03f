package rabbittest

import "syscall"

// attributes have a process end with this one, also when a test's time is over.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
