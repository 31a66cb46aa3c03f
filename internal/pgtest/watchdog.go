package pgtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// watchdogScript ends the cluster in $1 when its input closes. A line of input
// means that there is nothing left to do.
//
// The pid comes from postmaster.pid, so a postmaster that has not written it yet
// is missed; it finds its directory gone and leaves by itself.
const watchdogScript = `
read -r line && exit 0
if read -r pid < "$1/data/postmaster.pid"; then
	kill -QUIT "$pid"
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

// startWatchdog starts a watchdog for the cluster in dir.
func startWatchdog(dir string) (*watchdog, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "sh", dir)
	cmd.Dir = "/"
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = errors.Join(cmd.Start(), r.Close())
	if err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", errors.Join(err, w.Close()))
	}
	return &watchdog{cmd, w}, nil
}

// dismiss ends the watchdog and leaves the cluster alone.
func (w *watchdog) dismiss() error {
	_, err := io.WriteString(w.pipe, "done\n")
	err = errors.Join(err, w.pipe.Close(), w.cmd.Wait())
	if err != nil {
		return fmt.Errorf("dismiss the watchdog: %w", err)
	}
	return nil
}
