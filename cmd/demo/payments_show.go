package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// figures are how far an act has come.
type figures struct {
	what                string
	done, all, retrying int
}

func (b *bank) paymentFigures(ctx context.Context) figures {
	return figures{"payments",
		b.count(ctx, "SELECT count(*) FROM payments.payments WHERE status <> 'requested'"), paymentCount,
		b.count(ctx, "SELECT count(*) FROM postrider.parked WHERE subscription = 'payments' AND state = 'retrying'")}
}

func (b *bank) receiptFigures(ctx context.Context) figures {
	return figures{"receipts",
		b.count(ctx, "SELECT count(*) FROM payments.receipts"),
		b.count(ctx, "SELECT count(*) FROM payments.payments WHERE status = 'paid'"),
		b.count(ctx, "SELECT count(*) FROM postrider.parked WHERE subscription = 'receipts' AND state = 'retrying'")}
}

// news is what a listener of the database's notifications has heard.
type news struct {
	mu      sync.Mutex
	last    []string
	failing int
	shown   time.Time
}

const (
	newsLines = 4
	barWidth  = 40
)

// listen hears of each change of status at its COMMIT, until ctx is cancelled.
func (b *bank) listen(ctx context.Context) error {
	conn, err := pgx.Connect(context.WithoutCancel(ctx), b.url())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(context.WithoutCancel(ctx), "LISTEN payments"); err != nil {
		return err
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		b.heard.add(n.Payload)
	}
}

func (n *news) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if strings.Contains(text, " failed: ") {
		n.failing++
	}
	n.last = append(n.last, text)
	n.last = n.last[max(0, len(n.last)-newsLines):]
}

// failed is how many tries were heard to fail.
func (n *news) failed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failing
}

// showFigures draws the bar and what was heard last; without a terminal it writes a line now and then.
func (b *bank) showFigures(f figures, since time.Duration) {
	b.heard.mu.Lock()
	last := append([]string(nil), b.heard.last...)
	due := time.Since(b.heard.shown) >= b.interval() || f.done == f.all
	if due {
		b.heard.shown = time.Now()
	}
	b.heard.mu.Unlock()
	line := f.bar(since)
	if !b.live {
		if due {
			b.say("%s", line)
		}
		return
	}
	panel := []string{"", "  " + line, ""}
	for _, text := range last {
		panel = append(panel, "    "+text)
	}
	b.show(panel)
}

// bar is the figures in one line.
func (f figures) bar(since time.Duration) string {
	full := barWidth * f.done / max(f.all, 1)
	line := fmt.Sprintf("%s  %s%s  %5.1f %%  %d of %d", f.what, strings.Repeat("█", full), strings.Repeat("░", barWidth-full),
		100*float64(f.done)/float64(max(f.all, 1)), f.done, f.all)
	if f.retrying > 0 {
		line += fmt.Sprintf(", %d wait for another try", f.retrying)
	}
	if s := since.Seconds(); s > 0.5 {
		line += fmt.Sprintf(", %.0f/s", float64(f.done)/s)
	}
	return line
}
