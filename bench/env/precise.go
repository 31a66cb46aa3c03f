package env

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Precise is the CPU time of processes and all that descend from them, in nanoseconds where the kernel keeps that (schedstat, see
// sched-stats in its documentation), else in hundredths of a second. It is for differences between two moments at which the same
// threads run: what has ended is left out.
func Precise(pids ...int) (sum time.Duration) {
	table := processes()
	for _, root := range pids {
		for _, pid := range tree(table, root) {
			sum += threads(pid, table[pid].cpu)
		}
	}
	return sum
}

// threads adds up a process's threads; other is what is known without.
func threads(pid int, other time.Duration) (sum time.Duration) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, name := range files {
		text, err := os.ReadFile(name)
		if f := bytes.Fields(text); err == nil && len(f) > 0 {
			n, _ := strconv.ParseInt(string(f[0]), 10, 64)
			sum += time.Duration(n)
		}
	}
	if sum == 0 {
		return other
	}
	return sum
}
