// Package snapshot has the arithmetic of what transactions see: snapshots as PostgreSQL's pg_snapshot (src/backend/utils/adt/xid8funcs.c),
// windows between two of them, sets of ids as int8multirange, what is settled beyond the rest, and what a cursor holds. It is pure, and
// each type reads and writes PostgreSQL's text or binary form.
//
//   - Transactions become visible in another order than they insert or commit, so a cursor is a snapshot, never a position.
//   - A row is known by its id and its time of creation: ids come again when a sequence is set back.
package snapshot
