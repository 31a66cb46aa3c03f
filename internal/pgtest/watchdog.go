package pgtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// watchdogScript ends the process whose pid is in the file $1/$2 with signal $3
// when its input closes, and removes the directory $1. The line "done" means that
// there is nothing left to do; any other names processes that are stopped and have
// to go on first, or else would never end.
//
// A postmaster that has not written its pid yet is missed; it finds its directory
// gone and leaves by itself.
const watchdogScript = `
paused=
while read -r line; do
	[ "$line" = done ] && exit 0
	paused=$line
done
[ -z "$paused" ] || kill -CONT $paused 2>/dev/null
if read -r pid < "$1/$2"; then
	kill -"$3" "$pid"
	i=0
	while kill -0 "$pid" && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
	kill -KILL "$pid"
fi 2>/dev/null
i=0
until rm -rf "$1" 2>/dev/null || [ $i -ge 50 ]; do sleep 0.1; i=$((i+1)); done
`

// watchdog is the child that cleans up when this process cannot.
type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// startWatchdog starts a watchdog for dir and the process whose pid is in its
// pidFile. signal is that of an immediate end, without SIG.
func startWatchdog(dir, pidFile, signal string) (*watchdog, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "sh", dir, pidFile, signal)
	cmd.Dir = "/"
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = errors.Join(cmd.Start(), r.Close())
	if err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", errors.Join(err, w.Close()))
	}
	return &watchdog{cmd, w}, nil
}

// note tells which processes are stopped. None: all go on.
func (w *watchdog) note(stopped []int) error {
	line := strings.Trim(fmt.Sprint(stopped), "[]")
	if _, err := io.WriteString(w.pipe, line+"\n"); err != nil {
		return fmt.Errorf("tell the watchdog: %w", err)
	}
	return nil
}

// dismiss ends the watchdog and leaves the process alone.
func (w *watchdog) dismiss() error {
	_, err := io.WriteString(w.pipe, "done\n")
	err = errors.Join(err, w.pipe.Close(), w.cmd.Wait())
	if err != nil {
		return fmt.Errorf("dismiss the watchdog: %w", err)
	}
	return nil
}
