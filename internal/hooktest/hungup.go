package hooktest

import (
	"errors"
	"net"
	"syscall"
)

// hungUp says whether the other end of a connection has closed it, which the kernel
// knows before net/http notices.
func hungUp(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var n int
	var peek error
	err = raw.Control(func(fd uintptr) {
		n, _, peek = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	if err != nil {
		return true // Closed on this side.
	}
	alive := n > 0 || errors.Is(peek, syscall.EAGAIN) || errors.Is(peek, syscall.EINTR)
	return !alive
}
