// Package maintain keeps the tables small while relays run. Its jobs come round again and again, each at a pace of its own, beside the
// deliveries and never in their way:
//
//	retention   empties segments of the outbox that are settled for everybody and old enough, and keeps the ring long enough
//	expiry      removes dead letters, discarded and cancelled messages that are past their retention
//	floors      notes that nothing is new for subscriptions that workers take from in SQL, so that they hold no segments
//	records     empties segments of results and attempts that are past the retention
//	unique      enqueues duplicates whose first message may have been out when they came, and removes unique keys that are free again
//	events      makes messages of what operators are to know
//	lost        notes for operators which workers were lost with jobs; retention notes who keeps segments
//	operations  redrives, discards and cancels messages by the thousand, a chunk at a time, which saves how far it has come
//
// What holds:
//   - Every relay carries every job out. A job may be done twice, or by two at once, and the outcome is the same: statements decide under
//     their own locks, and wait for none that an application could feel.
//   - A job that fails is logged once per reason, and done again at its next turn. It delays no other job and ends no relay.
//   - No segment is emptied that some cursor may still need; no parked message is removed that the outbox still holds, for without its row
//     it would count as delivered, and a replay would bring it back.
package maintain
