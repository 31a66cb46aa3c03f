package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

const (
	shortestRefresh = 200 * time.Millisecond
	// clearScreen goes to the upper left corner and forgets what is on the screen.
	clearScreen = "\x1b[H\x1b[2J"
)

func (a *app) topCommand() *cobra.Command {
	every := 2 * time.Second
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show where each subscription stands, again and again, until Ctrl-C",
		Long: `Show what status shows, and how fast messages come, again and again, until Ctrl-C. While the database cannot be asked, the last figures
stay, with the reason.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < shortestRefresh {
				return fmt.Errorf("--every %s: must be at least %s", every, shortestRefresh)
			}
			if !isTerminal(a.out) {
				return errors.New("top draws on a terminal, and this is none: `postrider status` prints once, with --json for programs")
			}
			return a.top(cmd.Context(), every)
		},
	}
	cmd.Flags().DurationVar(&every, "every", every, "how often")
	return cmd
}

// isTerminal says whether somebody can see what is written.
func isTerminal(out any) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// top draws until ctx is cancelled. It connects anew when it has to.
func (a *app) top(ctx context.Context, every time.Duration) error {
	var s screen
	t := time.NewTicker(every)
	defer t.Stop()
	for first := true; ; first = false {
		err := a.withDB(ctx, func(ctx context.Context, db *dbconn.Conn) error {
			for ; ctx.Err() == nil; first = false {
				if err := s.look(ctx, db); err != nil {
					return err
				}
				a.draw(&s, nil)
				select {
				case <-ctx.Done():
				case <-t.C:
				}
			}
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case first: // it never worked
			return err
		}
		a.draw(&s, err)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// screen is what was seen last, and how much there had been before.
type screen struct {
	report *admin.StatusReport
	last   int64 // id that was given out
	rate   float64
}

// look reads where everything stands.
func (s *screen) look(ctx context.Context, db *dbconn.Conn) error {
	report, err := admin.Status(ctx, db)
	if err != nil {
		return err
	}
	var last int64
	if err := db.QueryRow(ctx, "SELECT last_value FROM postrider.outbox_id_seq").Scan(&last); err != nil {
		return err
	}
	s.rate = 0
	if s.report != nil && last > s.last {
		s.rate = float64(last-s.last) / report.Now.Sub(s.report.Now).Seconds()
	}
	s.report, s.last = report, last
	return nil
}

func (a *app) draw(s *screen, trouble error) {
	if s.report == nil {
		return
	}
	var b strings.Builder
	on := *a
	on.out = &b
	on.printStatus(s.report)
	fmt.Fprintf(a.out, "%spostrider top · %s · %s messages/s come in\n", clearScreen, s.report.Now.Format(time.TimeOnly), human.Number(int64(s.rate+0.5)))
	if trouble != nil {
		fmt.Fprintf(a.out, "the database cannot be asked, this is old: %s\n", human.OneLine(dbconn.Explain(trouble)))
	}
	fmt.Fprintf(a.out, "\n%s", b.String())
}
