// Package jobs measures what does jobs of one second of CPU or none: Postrider's two kinds of workers, with the Go library, beside a plain table
// whose workers delete with SKIP LOCKED, and River with its jobs completed in the transaction of their effect.
//
// A worker is a process of the bench. It counts what it has done, and when each job's handler began.
package jobs
