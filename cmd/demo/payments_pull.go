package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sendReceipts is act two: workers in Go that ask the relay for jobs.
func (b *bank) sendReceipts(ctx context.Context) error {
	b.say("four workers, made with package worker, come to the relay for them; a worker that is silent for 2 s has lost its jobs")
	hands := map[string]*hand{}
	for _, name := range []string{"ada", "bob", "eve", "joe"} {
		h, err := b.hireGo(name)
		if err != nil {
			return err
		}
		hands[name] = h
	}
	if err := b.watchUntil(ctx, b.receiptFigures, func(ctx context.Context) error {
		return b.mishapsOverHTTP(ctx, hands)
	}); err != nil {
		return err
	}
	for _, h := range hands {
		if err := h.dismiss(); err != nil {
			return err
		}
	}
	return b.judgeReceipts(ctx)
}

// hireGo starts this program anew, as a worker.
func (b *bank) hireGo(name string) (*hand, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerVariable+"="+strings.Join([]string{name, "http://" + b.relay.api, b.url()}, " "))
	return b.hire(name, cmd, func(line string) {
		if n, ok := strings.CutPrefix(line, "lost "); ok {
			lost, err := strconv.Atoi(n)
			if err != nil {
				b.fail(err)
			}
			b.mu.Lock()
			b.lost += lost
			b.mu.Unlock()
		}
	})
}

// mishapsOverHTTP lets eve hang and wake, and kills joe.
func (b *bank) mishapsOverHTTP(ctx context.Context, hands map[string]*hand) error {
	pause(ctx, time.Second)
	if err := hands["eve"].signal(syscall.SIGSTOP); err != nil {
		return err
	}
	b.say("eve hangs (kill -STOP): the relay hears nothing of her")
	pause(ctx, 500*time.Millisecond)
	hands["joe"].kill()
	b.say("joe is killed (kill -9) and started again: his new self says that the old one has nothing any more")
	again, err := b.hireGo("joe")
	if err != nil {
		return err
	}
	hands["joe"] = again
	pause(ctx, 3*time.Second)
	b.say("eve wakes up (kill -CONT) and goes on as if nothing had happened")
	return hands["eve"].signal(syscall.SIGCONT)
}

func (b *bank) judgeReceipts(ctx context.Context) error {
	paid := b.count(ctx, "SELECT count(*) FROM payments.payments WHERE status = 'paid'")
	sent := b.count(ctx, "SELECT count(*) FROM payments.receipts")
	if sent != paid && ctx.Err() == nil {
		return fmt.Errorf("a promise was broken: %d receipts were sent, of %d", sent, paid)
	}
	b.mu.Lock()
	lost := b.lost
	b.mu.Unlock()
	b.say("%d receipts were sent, one for each payment; eve was told, when she woke, that %d were no longer hers", sent, lost)
	return ctx.Err()
}
