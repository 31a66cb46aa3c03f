// Command postrider delivers the messages of an outbox table to HTTP endpoints, NATS and other destinations, and holds the
// commands to operate it. It wires the packages together and decides nothing about deliveries itself.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
