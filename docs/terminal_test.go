package docs

import (
	"context"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// terminal is where something runs in the background.
type terminal struct {
	of    *block
	cmd   *exec.Cmd
	ended chan struct{} // closed once it has ended
	err   error         // how
}

// output collects what the terminals in the background print, and says when there is more, or one has ended.
type output struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // closed and made anew when something comes
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.text.Write(p)
}

// wake makes who waits for more look again.
func (o *output) wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
}

func (o *output) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Len()
}

// since returns what was printed after the first n bytes, and what is closed when more comes.
func (o *output) since(n int) (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()[n:], o.more
}

// inGroup makes cmd lead a process group, which is killed as a whole when its time is over.
func inGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// start runs a block in a terminal of its own, which has none of the variables that others exported, and waits until it has printed what its
// directive says.
func (r *reader) start(b *block) {
	r.t.Helper()
	term := &terminal{of: b, cmd: exec.CommandContext(context.Background(), "sh", "-e", "-c", r.script(b)), ended: make(chan struct{})}
	term.cmd.Dir, term.cmd.Env, term.cmd.Stdout, term.cmd.Stderr = r.dir, r.env, r.output, r.output
	inGroup(term.cmd)
	mark := r.output.len()
	if err := term.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		term.err = term.cmd.Wait()
		close(term.ended)
		r.output.wake()
	}()
	r.terminals = append(r.terminals, term)
	for _, want := range b.all("background") {
		r.await(b, r.here(want), mark)
	}
}

// await waits until something in the background has printed want, after the first mark bytes.
func (r *reader) await(b *block, want string, mark int) {
	r.t.Helper()
	deadline := time.After(r.patience)
	for {
		text, more := r.output.since(mark)
		if strings.Contains(text, want) {
			return
		}
		for _, term := range r.terminals {
			select {
			case <-term.ended:
				r.t.Fatalf("%s: what %s began ended with %v before %q was printed:\n%s", b, term.of, term.err, want, r.background())
			default:
			}
		}
		select {
		case <-more:
		case <-deadline:
			r.t.Fatalf("%s: nothing in the background prints %q:\n%s", b, want, r.background())
		}
	}
}

// background is what was printed in the background.
func (r *reader) background() string {
	text, _ := r.output.since(0)
	return "--- in the background:\n" + text
}

// endBackground ends what runs in the background, as Ctrl-C does. What has ended by itself is an error.
func (r *reader) endBackground() {
	r.t.Helper()
	for _, term := range r.terminals {
		select {
		case <-term.ended:
			r.t.Errorf("%s: ended by itself with %v:\n%s", term.of, term.err, r.background())
			continue
		default:
		}
		if err := syscall.Kill(-term.cmd.Process.Pid, syscall.SIGINT); err != nil {
			r.t.Errorf("%s: %v", term.of, err)
		}
		select {
		case <-term.ended:
		case <-time.After(patience):
			r.t.Errorf("%s: does not end after Ctrl-C", term.of)
			if err := syscall.Kill(-term.cmd.Process.Pid, syscall.SIGKILL); err != nil {
				r.t.Error(err)
			}
			<-term.ended
		}
	}
	r.terminals = nil
}
