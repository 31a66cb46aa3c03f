// Command torture breaks everything around the real relay, again and again, and proves that the guarantees hold.
//
// It needs Go and nothing else; see `make torture`. The environment says what to do:
//
//	SEED          a number that decides what happens; the same one repeats a run's faults. Default: another one each time.
//	DURATION      how long, such as 10m. Rounds of about a minute follow one another. Default: 1m.
//	FAULTS        names of faults, separated by commas. Default: all. FAULTS=list lists them.
//	DESTINATIONS  names of those that not every round has, separated by commas. Default: two of them, others each round.
//	FOLLOW        stream, listen, timer or pooler. Default: another one each round.
//	RELAYS        1, 2 or 3. Default: another number each round.
//
// The status is 0 if every promise was kept, 1 if one was broken, 2 if a setting is wrong.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/torture"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Getenv, os.Stdout))
}

// run does what the environment says and returns the status.
func run(ctx context.Context, env func(string) string, out io.Writer) int {
	if env("FAULTS") == "list" {
		torture.WriteFaults(out)
		return 0
	}
	c, err := settings(env)
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		fmt.Fprintln(out, "torture:", err)
		return 2
	}
	c.Log = out
	ok, err := torture.Rounds(ctx, c)
	if err != nil {
		fmt.Fprintln(out, "torture:", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

// settings reads the environment.
func settings(env func(string) string) (c torture.Config, err error) {
	c.Seed, c.Duration, c.Follow = uint64(time.Now().UnixNano()%1_000_000_000), time.Minute, env("FOLLOW")
	if v := env("SEED"); v != "" {
		if c.Seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			return c, fmt.Errorf("SEED=%s: must be a number from 0 to 2^64-1", v)
		}
	}
	if v := env("DURATION"); v != "" {
		if c.Duration, err = time.ParseDuration(v); err != nil {
			return c, fmt.Errorf("DURATION=%s: must be a number with a unit, such as 90s or 10m", v)
		}
	}
	if v := env("RELAYS"); v != "" {
		if c.Relays, err = strconv.Atoi(v); err != nil {
			return c, fmt.Errorf("RELAYS=%s: must be 1, 2 or 3", v)
		}
	}
	if v := env("FAULTS"); v != "" && v != "all" {
		c.Faults = strings.Split(v, ",")
	}
	if v := env("DESTINATIONS"); v != "" {
		c.Destinations = strings.Split(v, ",")
	}
	return c, nil
}
