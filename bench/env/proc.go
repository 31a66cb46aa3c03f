package env

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ, which is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// proc is what /proc tells of a process.
type proc struct {
	parent int
	cpu    time.Duration // its own, and that of children that have ended and were waited for
}

// processes reads the process table. Where there is no /proc it is empty.
func processes() map[int]proc {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	table := make(map[int]proc, len(files))
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if p, ok := parseStat(text); ok {
			table[pid] = p
		}
	}
	return table
}

// parseStat reads "pid (name) state parent …"; the name may hold anything. See proc(5).
func parseStat(text []byte) (p proc, ok bool) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return p, false
	}
	f := bytes.Fields(text[end+1:])
	if len(f) < 15 {
		return p, false
	}
	p.parent, _ = strconv.Atoi(string(f[1]))
	for _, field := range f[11:15] { // utime, stime, cutime, cstime
		n, _ := strconv.ParseInt(string(field), 10, 64)
		p.cpu += time.Duration(n) * tick
	}
	return p, true
}

// tree returns pid and all that descend from it.
func tree(table map[int]proc, pid int) []int {
	children := map[int][]int{}
	for id, p := range table {
		children[p.parent] = append(children[p.parent], id)
	}
	list := []int{pid}
	for i := 0; i < len(list); i++ {
		list = append(list, children[list[i]]...)
	}
	return list
}

// cpu is the CPU time of processes and all that descend from them.
func cpu(pids ...int) (sum time.Duration) {
	table := processes()
	for _, root := range pids {
		for _, pid := range tree(table, root) {
			sum += table[pid].cpu
		}
	}
	return sum
}

// resident is the resident memory of a process and all that descend from it, in bytes.
func resident(pid int) (sum int64) {
	for _, id := range tree(processes(), pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
		if err == nil {
			sum += parseKB(text, "VmRSS:")
		}
	}
	return sum
}

// parseKB returns a line of /proc/*/status in bytes, 0 if there is none.
func parseKB(text []byte, name string) int64 {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) > 1 && string(f[0]) == name {
			n, _ := strconv.ParseInt(string(f[1]), 10, 64)
			return n << 10
		}
	}
	return 0
}
