package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// proc is a row of the process table.
type proc struct {
	pid, parent int
	state       byte // the first letter that ps shows: T stopped, Z zombie; 0: gone
}

func (p proc) gone() bool    { return p.state == 0 }
func (p proc) ended() bool   { return p.gone() || p.state == 'Z' }
func (p proc) stopped() bool { return p.ended() || p.state == 'T' }

// processTable reads /proc, or asks ps where there is none.
func processTable(ctx context.Context) (map[int]proc, error) {
	lines, err := procLines()
	if err == nil && len(lines) == 0 {
		lines, err = psLines(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	table := make(map[int]proc, len(lines))
	for _, line := range lines {
		p, err := parseProc(line)
		if err != nil {
			return nil, fmt.Errorf("list processes: %q: %w", line, err)
		}
		table[p.pid] = p
	}
	return table, nil
}

// procLines returns a line "pid state parent …" for each process in /proc.
func procLines() ([][]byte, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var lines [][]byte
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		// "pid (name) state parent …", and the name may hold anything.
		if from, to := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')'); from >= 0 && to > from {
			lines = append(lines, append(text[:from:from], text[to+1:]...))
		}
	}
	return lines, nil
}

// psLines returns what procLines does where there is no /proc.
func psLines(ctx context.Context) ([][]byte, error) {
	out, err := exec.CommandContext(ctx, "ps", "-A", "-o", "pid=,stat=,ppid=").Output()
	if err != nil {
		return nil, fmt.Errorf("there is no /proc, and ps: %w", err)
	}
	return bytes.Split(bytes.TrimSpace(out), []byte("\n")), nil
}

func parseProc(line []byte) (proc, error) {
	f := bytes.Fields(line)
	if len(f) < 3 {
		return proc{}, errors.New("too few fields")
	}
	pid, err := strconv.Atoi(string(f[0]))
	parent, parentErr := strconv.Atoi(string(f[2]))
	return proc{pid, parent, f[1][0]}, errors.Join(err, parentErr)
}

// awaitProcs returns once ok holds for every one of pids.
func awaitProcs(ctx context.Context, pids []int, ok func(proc) bool) error {
	for {
		table, err := processTable(ctx)
		if err != nil {
			return err
		}
		pending := 0
		for _, pid := range pids {
			if !ok(table[pid]) {
				pending = pid
			}
		}
		if pending == 0 {
			return nil
		}
		if !pause(ctx) {
			return fmt.Errorf("wait for process %d (state %c): %w", pending, table[pending].state, context.Cause(ctx))
		}
	}
}

// signalAll sends sig to every process that is still there.
func signalAll(sig syscall.Signal, pids ...int) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %v to process %d: %w", sig, pid, err)
		}
	}
	return nil
}
