// Package measured writes the tables of docs/performance.md from what the bench has measured, the files of bench/results.
//
// A table on the page stands under a line that names it:
//
//	<!-- measured: backlog -->
//	| to | system | messages/s | …
//
// All of it is written anew: its head, and a row for each that the results have. A table whose results are not there stays as it is. What the
// bench does not measure stands under a line that says where it is from:
//
//	<!-- by hand: counted by valgrind -->
package measured
