package torture

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// watchdog leads the process group of all children. If this process is killed, it ends the group, whoever is in it by then.
type watchdog struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// startWatchdog starts it; dir goes with the group.
func startWatchdog(dir string) (*watchdog, error) {
	// A line of input means that there is nothing left to do; its end, that nobody is left to say so.
	cmd := exec.Command("/bin/sh", "-c", `read -r _ && exit; rm -rf "$1"; kill -KILL 0`, "sh", dir)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	return &watchdog{cmd, pipe}, nil
}

// attributes put a child into the group, out of reach of a Ctrl-C in the terminal.
func (w *watchdog) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pgid: w.cmd.Process.Pid}
}

// dismiss ends the watchdog and leaves its group alone.
func (w *watchdog) dismiss() error {
	_, err := io.WriteString(w.pipe, "done\n")
	return errors.Join(err, w.cmd.Wait())
}
