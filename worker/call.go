package worker

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/jackc/pgx/v5"
)

// work is Do for a goroutine of its own, which the handler may end (runtime.Goexit, as a test's FailNow does).
func (w *Worker) work(ctx context.Context, tx pgx.Tx, job *Job, then func(Outcome)) {
	out := Outcome{Kind: kindRetry, Reason: "the handler ended its goroutine"}
	defer func() { then(out) }()
	out = w.Do(ctx, tx, job)
}

// invoke makes an error of a panic, with the head of its stack, so that one bad job does not end the others.
func (w *Worker) invoke(ctx context.Context, handle Handler, job *Job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, stackHead(string(debug.Stack())))
		}
	}()
	if w.cfg.Context != nil {
		ctx = w.cfg.Context(ctx, job)
	}
	return handle(ctx, job)
}

// stackHead returns the frames from the panic on, without those of this package and the runtime.
func stackHead(stack string) string {
	lines := strings.Split(stack, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic(") && i+2 < len(lines) {
			lines = lines[i+2:]
			break
		}
	}
	return strings.Join(lines[:min(len(lines), 8)], "\n")
}
