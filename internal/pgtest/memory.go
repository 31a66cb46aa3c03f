package pgtest

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/postrider/postrider/internal/account"
)

const (
	sharedMemory = "/dev/shm"
	tmpfs        = 0x01021994 // its f_type in statfs(2)
	enoughMemory = 10 << 30   // of what is free there, for the clusters of all packages that are tested at once
)

// InMemory has this process and its children make clusters in memory, if there is plenty of it. Tests make and drop a database each, of some
// three hundred files: ext4, which does not reuse the inodes of files for seconds after their removal, spends a third of their time on that.
// Whoever set the variable, to a directory or to nothing, is heard.
func InMemory() error {
	if _, set := os.LookupEnv(account.DirVariable); set {
		return nil
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(sharedMemory, &fs); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return &os.PathError{Op: "statfs", Path: sharedMemory, Err: err}
	}
	if int64(fs.Type) != tmpfs || int64(fs.Bavail)*int64(fs.Bsize) < enoughMemory || availableMemory() < enoughMemory {
		return nil
	}
	return os.Setenv(account.DirVariable, sharedMemory)
}

// availableMemory is what Linux could give to new work, in bytes; 0 where it cannot be known.
func availableMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}
