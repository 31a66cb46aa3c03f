// Package wal follows the write-ahead log: a replication connection on a temporary slot, the messages of the output plugin (pgoutput,
// protocol version 1, binary), and the Backlog of committed transactions that no snapshot sees yet.
//
//		connection ─▶ Assembler: messages ─▶ transactions ─▶ Backlog ─▶ feed, when a tick shows them
//
//	  - The reader never waits for anybody: past its bound the backlog drops everything, which is a gap, and the table has it all.
//	  - Received is acknowledged: the table, not the slot, is the durable buffer. The slot vanishes with the connection.
//	  - After a gap nothing is handed out until the feed says that it may be relied on again.
package wal
