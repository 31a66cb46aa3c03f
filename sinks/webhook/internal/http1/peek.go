//go:build unix

package http1

import "syscall"

// canPeek says that peek works here.
const canPeek = true

// peek says whether a read from a socket of ours would find something: bytes, an end, or an error.
func peek(fd uintptr) bool {
	var b [1]byte
	// The socket does not block, as all of Go's.
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
	return err != syscall.EAGAIN
}

// readNow reads what has come over a socket of ours.
func readNow(fd uintptr, b []byte) (int, error) { return syscall.Read(int(fd), b) }
