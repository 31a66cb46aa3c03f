// Command demo shows Postrider at work: a private PostgreSQL, an embedded NATS server, a web server that fails now and then,
// an application with real transactions, and the real relay between them. It needs Go, and a PostgreSQL that is installed
// or can be. It keeps an account of its own and ends with status 0 only if every message that committed was delivered to
// every subscription that wants it, and none that rolled back was ever seen. Nothing is left behind.
//
// With DEMO=payments it shows 10,000 payments instead, which are tasks for workers in SQL, and their receipts, for workers over HTTP.
//
// FOLLOW (auto, stream, listen, timer) is passed to the relay; with KEEP=1 everything stays up until Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// options come from the environment.
type options struct {
	demo   string
	follow string
	keep   bool
}

func parseOptions(getenv func(string) string) (options, error) {
	o := options{follow: getenv("FOLLOW"), demo: getenv("DEMO")}
	if known := []string{"", "shop", "payments"}; !slices.Contains(known, o.demo) {
		return o, fmt.Errorf("DEMO=%s: must be shop or payments", o.demo)
	}
	if o.follow == "" {
		o.follow = "auto"
	}
	if known := []string{"auto", "stream", "listen", "timer"}; !slices.Contains(known, o.follow) {
		return o, fmt.Errorf("FOLLOW=%s: must be one of %s", o.follow, strings.Join(known, ", "))
	}
	switch keep := getenv("KEEP"); keep {
	case "", "0":
	case "1":
		o.keep = true
	default:
		return o, fmt.Errorf("KEEP=%s: must be 1, or 0 or nothing", keep)
	}
	return o, nil
}

func main() {
	// A closed terminal and a reader that went away end the demo too, in order.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	o, err := parseOptions(os.Getenv)
	switch settings, isWorker := os.LookupEnv(workerVariable); {
	case isWorker:
		err = work(ctx, settings)
	case err != nil:
	case o.demo == "payments":
		err = runPayments(ctx, newScreen(os.Stdout))
	default:
		err = run(ctx, o, newScreen(os.Stdout))
	}
	if err != nil && errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("stopped early: %w", err)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
