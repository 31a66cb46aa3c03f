package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// screen prints lines that stay and, on a terminal, a panel below them that is drawn again in place.
type screen struct {
	w     io.Writer
	live  bool // a terminal
	start time.Time

	mu    sync.Mutex
	panel []string
	drawn int // lines of the panel that are on the terminal
}

func newScreen(f *os.File) *screen {
	info, err := f.Stat()
	live := err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	return &screen{w: f, live: live, start: time.Now()}
}

// interval is how often the panel, or else a line of figures, is worth showing.
func (s *screen) interval() time.Duration {
	if s.live {
		return 250 * time.Millisecond
	}
	return time.Second
}

// say prints a line that stays, with the time since the start.
func (s *screen) say(format string, args ...any) {
	s.print(fmt.Sprintf("%5.1f s  ", time.Since(s.start).Seconds()) + fmt.Sprintf(format, args...))
}

// Write says each line of p, for others to log to.
func (s *screen) Write(p []byte) (int, error) {
	for line := range strings.SplitSeq(strings.TrimRight(string(p), "\n"), "\n") {
		s.say("  %s", line)
	}
	return len(p), nil
}

// print prints lines that stay, as they are.
func (s *screen) print(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draw(lines)
}

// show replaces the panel. An empty one takes it away.
func (s *screen) show(panel []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.panel = panel
	s.draw(nil)
}

// draw writes everything at once, which keeps a terminal from flickering.
func (s *screen) draw(lines []string) {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.drawn)
	}
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	s.drawn = 0
	if s.live && len(s.panel) > 0 {
		// Without wrapping, a line stays one row where the window is narrow.
		fmt.Fprintf(&b, "\x1b[?7l%s\n\x1b[?7h", strings.Join(s.panel, "\n"))
		s.drawn = len(s.panel)
	}
	// An error means that the reader has gone, which also arrives as a signal.
	_, _ = io.WriteString(s.w, b.String())
}

// table lays out rows, the first of which is the header. The first text columns are aligned to the left, the others right.
func table(text int, rows [][]string) (lines []string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			width := widths[i]
			if i < text {
				width = -width
			}
			fmt.Fprintf(&line, "  %*s", width, cell)
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// short writes a duration with two or three digits, and a dash for none.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
