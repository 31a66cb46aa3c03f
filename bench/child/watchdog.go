package child

import (
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// dog leads the process group of all children. It is started with the first of them and lives until this process dismisses it or ends.
var dog struct {
	sync.Mutex
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// watch returns the process group for children.
func watch() (group int, err error) {
	dog.Lock()
	defer dog.Unlock()
	if dog.cmd != nil {
		return dog.cmd.Process.Pid, nil
	}
	// A line of input means that there is nothing left to do; its end, that nobody is left to say so.
	cmd := exec.Command("/bin/sh", "-c", `read -r _ && exit; kill -KILL 0`)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return 0, fmt.Errorf("start the watchdog: %w", err)
	}
	dog.cmd, dog.pipe = cmd, pipe
	return cmd.Process.Pid, nil
}

// Dismiss ends the watchdog, once all children have ended.
func Dismiss() error {
	dog.Lock()
	defer dog.Unlock()
	if dog.cmd == nil {
		return nil
	}
	_, err := io.WriteString(dog.pipe, "done\n")
	if waitErr := dog.cmd.Wait(); err == nil {
		err = waitErr
	}
	dog.cmd = nil
	if err != nil {
		return fmt.Errorf("dismiss the watchdog: %w", err)
	}
	return nil
}
