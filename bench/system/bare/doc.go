// Package bare is the limit that systems are compared with: a loop that does only what physics demands, and keeps no state.
//
//	backlog  keyset scan of a plain table in big pages ─┐
//	                                                     ├─▶ publish with a message id, thousands of acknowledgements outstanding,
//	live     WAL through a temporary slot, pgoutput ─────┘   or POST over 64 connections that are kept alive, with net/http or raw,
//	                                                         or the loop of another kind of destination, see package bridge
//
// It begins with the slot and the scan; when a page is empty, it goes on with the WAL. It does not retry, does not remember, and ends with
// an error when anything goes wrong.
package bare
