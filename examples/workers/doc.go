// Package workers has small workers in Python and Node.js, and tests them. Workers in Go use package worker.
package workers
