// Package child runs the processes of a measurement, each a process of its own, so that its CPU time can be told from the rest's.
//
// Parts of the bench that need a process (the NATS server, the receiver of webhooks, the bare pipe, peers in Go) run the bench's own
// program again, with a hidden first argument:
//
//	func init() { child.Register("bare", func(args []string) { …; child.Ready(); … }) }
//	…
//	p, err := child.Start(ctx, child.Spec{Name: "bare pipe", Cmd: child.Command(ctx, "bare", url), Log: file, AwaitReady: true})
//
// main and TestMain call [Run] first. Other programs (the relay, node) are started with [Start] as well.
//
// No child outlives the bench: each is in the process group of a watchdog, a shell that reads a pipe which only the bench holds open and
// kills the group when that closes. A Ctrl-C in the terminal does not reach the group: whoever called Start calls Stop.
package child
