package main

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// cleanup holds named steps that undo what was started, the last one first.
type cleanup struct{ steps []step }

type step struct {
	name string
	run  func() error
}

func (c *cleanup) add(name string, run func() error) { c.steps = append(c.steps, step{name, run}) }

// run does all steps, each once, and reports those that fail. A step that takes long is named, so that nobody wonders.
func (c *cleanup) run(say func(format string, args ...any)) (failed error) {
	for len(c.steps) > 0 {
		s := c.steps[len(c.steps)-1]
		c.steps = c.steps[:len(c.steps)-1]
		slow := time.AfterFunc(2*time.Second, func() { say("still busy: %s …", s.name) })
		if err := s.run(); err != nil {
			failed = fmt.Errorf("clean up: %s: %w", s.name, err)
			say("%v", failed)
		}
		slow.Stop()
	}
	return failed
}

// watch starts a shell that ends process pid and removes dir if this process is killed before it has dismissed the shell.
func watch(pid int, dir string) (dismiss func() error, err error) {
	dog := exec.Command("/bin/sh", "-c", `read -r _ || { kill -9 "$1"; rm -rf "$2"; }`, "sh", strconv.Itoa(pid), dir)
	dog.Dir, dog.SysProcAttr = "/", &syscall.SysProcAttr{Setsid: true}
	pipe, err := dog.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := dog.Start(); err != nil {
		return nil, err
	}
	return func() error {
		_, err := io.WriteString(pipe, "\n")
		return errors.Join(err, dog.Wait())
	}, nil
}
