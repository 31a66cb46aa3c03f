package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"unsafe"

	"github.com/postrider/postrider/internal/pgtest"
)

// terminal is a pseudo-terminal: what is written to it can be read on the other side.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("NOT TESTED, what a terminal shows: there is none: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	var unlock, number int32
	for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Skipf("NOT TESTED, what a terminal shows: there is none: %v", errno)
		}
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Skipf("NOT TESTED, what a terminal shows: there is none: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// top shows what status shows, anew as things change, says when the database is away, and goes on when it is back.
func TestTop(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context(), pgtest.Options{Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	url := server.URL("postgres")
	on(t, url, "migrate").ok()
	on(t, url, "subs", "apply", writeFile(t, "subscriptions:\n  - {name: billing, topics: [orders.>], sink: 'pull:'}\n")).ok()
	on(t, url, "top").fails("top draws on a terminal, and this is none: `postrider status` prints once")
	on(t, url, "top", "--every", "1ms").fails("--every 1ms: must be at least 200ms")
	master, slave := terminal(t)
	p := startWith(t, func(cmd *exec.Cmd) {
		cmd.Args = []string{cmd.Args[0], "top", "--every", "200ms"}
		cmd.Stdout = slave
	}, "POSTRIDER_DATABASE_URL="+url)
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			p.out.Write(bytes.Clone(b[:n]))
		}
	}()
	p.waitFor(`postrider top · [0-9:]+ · 0 messages/s come in\r\n\r\nSUBSCRIPTION .*\r\nbilling +active`)
	on(t, url, "enqueue", "orders.x").ok()
	p.waitFor(`billing +active +- +1 `)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	p.waitFor("the database cannot be asked, this is old: ")
	if err := server.Restart(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
	on(t, url, "subs", "pause", "billing", "--reason", "it moves").ok()
	p.waitFor(`billing +paused .* it moves`)
	p.signal(syscall.SIGINT)
	if err := <-p.done; err != nil {
		t.Errorf("Ctrl-C ends it with %v", err)
	}
}
