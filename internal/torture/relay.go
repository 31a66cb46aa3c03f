package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	relayPackage = "github.com/postrider/postrider/cmd/postrider"
	// stopTimeout is longer than the relay's own bound for a clean stop.
	stopTimeout = 30 * time.Second
)

// relayRace builds the relay with the race detector: where the checker has it, or where RELAY_RACE is not empty.
var relayRace = raceEnabled || os.Getenv("RELAY_RACE") != ""

// Build compiles the relay into dir and returns the path of the program.
func Build(ctx context.Context, dir string) (string, error) {
	return build(ctx, dir, relayRace)
}

// build compiles the relay with the race detector or without.
func build(ctx context.Context, dir string, race bool) (string, error) {
	binary := filepath.Join(dir, "postrider")
	args := []string{"build", "-o", binary}
	if race {
		args = append(args, "-race")
	}
	out, err := exec.CommandContext(ctx, "go", append(args, relayPackage)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the relay: %w\n%s", err, bytes.TrimSpace(out))
	}
	return binary, nil
}

// relay is one place in which the real program runs as a child process, one life after another.
type relay struct {
	name, binary, dir string
	env               []string
	dog               *watchdog
	// died is told when the process ends without having been asked to.
	died func(error)

	mu   sync.Mutex
	life *life
	n    int
}

// life is one process from start to end.
type life struct {
	cmd   *exec.Cmd
	log   string
	meant bool // its end is; guarded by relay.mu
	ended chan struct{}
	err   error // valid once ended is closed
}

// start runs the program unless it runs already.
func (r *relay) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.life != nil {
		return nil
	}
	r.n++
	l := &life{log: filepath.Join(r.dir, fmt.Sprintf("%s-%d.log", r.name, r.n)), ended: make(chan struct{})}
	log, err := os.Create(l.log)
	if err != nil {
		return fmt.Errorf("start relay %s: %w", r.name, err)
	}
	defer log.Close()
	l.cmd = r.command("run")
	l.cmd.Stdout, l.cmd.Stderr = log, log
	if err := l.cmd.Start(); err != nil {
		return fmt.Errorf("start relay %s: %w", r.name, err)
	}
	r.life = l
	go r.await(l)
	return nil
}

// command is a command of the program in the relay's environment. The child dies with this process.
func (r *relay) command(args ...string) *exec.Cmd {
	cmd := exec.Command(r.binary, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "POSTRIDER_") && !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// A data race ends the process, so that nobody overlooks it.
	cmd.Env = append(append(cmd.Env, "GORACE=halt_on_error=1 atexit_sleep_ms=0"), r.env...)
	cmd.SysProcAttr = r.dog.attributes()
	return cmd
}

// await takes the end of a life down.
func (r *relay) await(l *life) {
	err := l.cmd.Wait()
	r.mu.Lock()
	meant := l.meant
	if r.life == l {
		r.life = nil
	}
	r.mu.Unlock()
	if !meant {
		r.died(fmt.Errorf("relay %s ended by itself (%v); its log %s ends with\n%s", r.name, l.cmd.ProcessState, l.log, tail(l.log, 15)))
	}
	l.err = err
	close(l.ended)
}

// doom returns the running life, whose end is from now on meant, or nil.
func (r *relay) doom() *life {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.life != nil {
		r.life.meant = true
	}
	return r.life
}

// kill ends the process with SIGKILL, whatever it is doing.
func (r *relay) kill() {
	l := r.doom()
	if l == nil {
		return
	}
	_ = l.cmd.Process.Kill() // an error means that it is gone
	<-l.ended
}

// stop ends the process with SIGTERM, which it must obey within its own bound and with status 0.
func (r *relay) stop() error {
	l := r.doom()
	if l == nil {
		return nil
	}
	_ = l.cmd.Process.Signal(syscall.SIGCONT) // it may be paused
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-l.ended:
	case <-time.After(stopTimeout):
		_ = l.cmd.Process.Kill()
		<-l.ended
		return fmt.Errorf("relay %s did not stop within %v of SIGTERM; its log ends with\n%s", r.name, stopTimeout, tail(l.log, 15))
	}
	if l.err != nil && !l.unborn() {
		return fmt.Errorf("relay %s stopped with an error (%w); its log ends with\n%s", r.name, l.err, tail(l.log, 15))
	}
	return nil
}

// unborn reports whether the process ended before it had said anything: it did not listen to signals yet, and had nothing to save.
func (l *life) unborn() bool {
	info, err := os.Stat(l.log)
	return err == nil && info.Size() == 0
}

// pause stops the process where it stands, resume lets it go on.
func (r *relay) pause()  { r.signal(syscall.SIGSTOP) }
func (r *relay) resume() { r.signal(syscall.SIGCONT) }

func (r *relay) signal(s syscall.Signal) {
	if l := r.current(); l != nil {
		_ = l.cmd.Process.Signal(s) // an error means that it is gone
	}
}

func (r *relay) current() *life {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.life
}

func (r *relay) running() bool { return r.current() != nil }

// pid returns the process id, 0 if none runs.
func (r *relay) pid() int {
	if l := r.current(); l != nil {
		return l.cmd.Process.Pid
	}
	return 0
}

var servingAt = regexp.MustCompile(`address=(127\.0\.0\.1:\d+)`)

// url returns the address of the running process's HTTP endpoints.
func (r *relay) url() (string, error) {
	l := r.current()
	if l == nil {
		return "", fmt.Errorf("relay %s does not run", r.name)
	}
	text, err := os.ReadFile(l.log)
	if err != nil {
		return "", err
	}
	m := servingAt.FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("relay %s does not serve HTTP yet", r.name)
	}
	return "http://" + string(m[1]), nil
}

// ready returns nil once the relay says so.
func (r *relay) ready(ctx context.Context) error {
	response, err := r.get(ctx, "/readyz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("relay %s is not ready: status %d", r.name, response.StatusCode)
	}
	return nil
}

func (r *relay) get(ctx context.Context, path string) (*http.Response, error) {
	url, err := r.url()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	return http.DefaultClient.Do(request)
}

// metrics are what a relay tells of itself.
type metrics map[string]*dto.MetricFamily

// metrics asks the running process.
func (r *relay) metrics(ctx context.Context) (metrics, error) {
	response, err := r.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("metrics of relay %s: %w", r.name, err)
	}
	return families, nil
}

// value adds up all series of a name.
func (m metrics) value(name string) (sum float64) {
	for _, s := range m[name].GetMetric() {
		sum += s.GetGauge().GetValue() + s.GetCounter().GetValue()
	}
	return sum
}

// tail quotes the end of a file.
func tail(file string, n int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "  | " + strings.Join(lines[max(0, len(lines)-n):], "\n  | ")
}

var errTimeout = errors.New("timeout")

// poll asks until the answer is nil; after the timeout it returns the last one.
func poll(ctx context.Context, timeout time.Duration, ask func() error) error {
	for deadline := time.Now().Add(timeout); ; {
		err := ask()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w after %v: %w", errTimeout, timeout, err)
		}
		if !pause(ctx, 20*time.Millisecond) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
