package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// hidden is the first argument of a child.
const hidden = "bench-child"

// readyLine is what a child prints when it is ready.
const readyLine = "bench-child is ready"

var mains = map[string]func(args []string){}

// Register names what a child does. Call it from init.
func Register(name string, main func(args []string)) {
	if mains[name] != nil {
		panic("child.Register: " + name + " twice")
	}
	mains[name] = main
}

// Run does nothing in the bench itself. In a child it does the child's work and ends the process.
func Run() {
	if len(os.Args) < 3 || os.Args[1] != hidden {
		return
	}
	main := mains[os.Args[2]]
	if main == nil {
		Fatal(fmt.Errorf("there is no child %q", os.Args[2]))
	}
	main(os.Args[3:])
	os.Exit(0)
}

// Fatal ends a child with status 1, if err is not nil; the error goes to its log.
func Fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Command is a command that runs what was registered under name, in the program of this process. The end of ctx asks the child to end.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	return Gentle(exec.CommandContext(ctx, program, append([]string{hidden, name}, args...)...))
}

// Gentle makes the end of the context of a command ask with SIGTERM, and insist after 20 seconds.
func Gentle(cmd *exec.Cmd) *exec.Cmd {
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	return cmd
}

// Ready tells the bench that this child delivers, serves, or whatever it is for. Further lines of its standard output go to its log.
func Ready() { fmt.Println(readyLine) }

// Context is for the work of a child: it ends when Stop has asked for the end.
func Context() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM)
}
