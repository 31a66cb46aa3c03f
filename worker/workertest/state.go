package workertest

import "encoding/json"

// State is what became of a message so far.
type State struct {
	// State is pending, out, retrying, done, dead or cancelled.
	State string
	// Attempts are those that count.
	Attempts int
	// Released is how often a worker has given it back.
	Released int
	// Reason is the last attempt's.
	Reason string
	// Result is the last one.
	Result json.RawMessage
	// Percent and Note are the newest progress.
	Percent int
	Note    string
}
