// Command runtests runs the tests of all modules, as `make test` does, and says at its end what was skipped and why. With -matrix it
// runs the main packages' tests over several versions of PostgreSQL, as `make matrix` does.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/pgtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	matrix := flag.Bool("matrix", false, "run over several versions of PostgreSQL")
	versions := flag.String("versions", "", "those versions, separated by commas (default: all)")
	flag.Parse()
	run := testAll
	if *matrix {
		run = func(ctx context.Context) error { return testMatrix(ctx, *versions) }
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// suite is one call of go test.
type suite struct {
	dir  string
	args []string
	env  []string
}

// longest are the packages whose tests take longest, or wait most. They begin first, so that none of them is left over to run alone.
var longest = []string{"relay", "cmd/postrider", "migrations", "worker", "internal/console", "internal/pgtest", "sinks/webhook"}

// largeOnes is how many of them are tested one after another: beside each other their tests wait for processors, and run into their time limits.
const largeOnes = 3

// atOnce is how many tests of a large package run at the same time: they wait for servers and clocks more than they work.
func atOnce() string { return strconv.Itoa(3 * runtime.GOMAXPROCS(0)) }

// plain are packages that start no goroutines, and whose tests start none: the race detector finds nothing there, and what computes takes ten times
// as long with it.
var plain = []string{
	"deploy", "deploy/release", "internal/admin", "internal/admin/doctor", "internal/config", "internal/destination", "internal/human", "internal/rooms",
	"internal/secret", "outbox/topic", "relay/balance", "relay/cron", "relay/internal/fifo", "relay/limits", "relay/snapshot", "relay/states",
	"relay/subscription", "sinks/webhook/internal/sign",
}

// packagesAtOnce is how many of the other packages are tested at the same time: most of their tests run one after another, and wait.
func packagesAtOnce() string { return strconv.Itoa(2 * runtime.GOMAXPROCS(0)) }

// inOrder returns the packages to test: the large ones, each of which keeps the machine busy, the others, the longest first, and those that need no
// race detector.
func inOrder(packages []string) (large, others, pure []string) {
	place := func(path string) int {
		if i := slices.Index(longest, short(path)); i >= 0 {
			return i
		}
		return len(longest)
	}
	var ordered []string
	for _, path := range packages {
		switch {
		case slices.Contains(plain, short(path)):
			pure = append(pure, path)
		case short(path) != "internal/torture":
			ordered = append(ordered, path)
		}
	}
	slices.SortStableFunc(ordered, func(a, b string) int { return cmp.Compare(place(a), place(b)) })
	return ordered[:largeOnes], ordered[largeOnes:], pure
}

// quick makes test binaries that are made sooner: go vet is lint's, and nobody debugs them. Stack traces need neither.
var quick = []string{"-timeout", "25m", "-vet=off", "-ldflags=-s -w"}

// alone are tests that want the heap of their process for themselves: others of their package would wait for them meanwhile.
const alone = "^TestMemory$"

// testAll runs everything, also after a failure.
func testAll(ctx context.Context) error {
	if err := pgtest.InMemory(); err != nil {
		return err
	}
	if _, err := pgtest.Find(ctx, os.Stdout); err != nil {
		return err
	}
	race, err := raceFlag(ctx)
	if err != nil {
		return err
	}
	packages, err := list(ctx, "./...")
	if err != nil {
		return err
	}
	r := newReport(os.Stdout)
	if race == nil {
		r.skip("the race detector", "there is no C compiler")
	}
	most, rest, pure := inOrder(packages)
	large := suite{".", slices.Concat(quick, []string{"-p", "1", "-parallel", atOnce(), "-skip", alone}, race, most), nil}
	others := suite{".", slices.Concat(quick, []string{"-p", packagesAtOnce()}, race, rest), nil}
	quiet := suite{".", slices.Concat(quick, []string{"-p", "1"}, pure), nil}
	memory := suite{".", slices.Concat(quick, []string{"-run", alone, "./relay"}), nil} // the race detector has memory of its own
	// The checker waits most of the time, as its faults do; so do the tests of memory and the few packages of other modules. They go beside,
	// and take what the others leave of the machine. In the checker the race detector watches the relay alone.
	checker := suite{".", append(slices.Clone(quick), "./internal/torture"), []string{"RELAY_RACE=" + strings.Join(race, " ")}}
	interop := suite{"sinks/webhook/interop", append(slices.Clone(quick), "-p", "1", "./..."), nil}
	contract := suite{"internal/api/contract", append(slices.Clone(quick), "-p", "1", "./..."), nil}
	alerts := suite{"deploy/prometheus", append(slices.Clone(quick), "-p", "1", "./..."), nil}
	manifests := suite{"deploy/kubernetes", append(slices.Clone(quick), "-p", "1", "./..."), nil}
	bench := suite{"bench", append(slices.Clone(quick), "-p", "1", "./..."), nil}
	var group errgroup.Group
	for _, row := range [][]suite{{large, others}, {checker, memory, quiet, interop, contract, alerts, manifests, bench}} {
		group.Go(func() error {
			for _, s := range row {
				if err := s.run(ctx, r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return r.end()
}

// run runs the suite. Tests that fail are in the report; an error means that they could not be run.
func (s suite) run(ctx context.Context, r *report) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, s.args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Dir, cmd.Env, cmd.Stderr = s.dir, append(os.Environ(), s.env...), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	readErr := r.read(out)
	err = cmd.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if _, failed := errors.AsType[*exec.ExitError](err); failed {
		r.fail()
		err = nil
	}
	return errors.Join(readErr, err)
}

// raceFlag asks for the race detector where there is a C compiler, which it takes; Go knows.
func raceFlag(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "CGO_ENABLED").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	if strings.TrimSpace(string(out)) != "1" {
		return nil, nil
	}
	return []string{"-race"}, nil
}

func list(ctx context.Context, pattern string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", pattern).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", pattern, err)
	}
	return strings.Fields(string(out)), nil
}
