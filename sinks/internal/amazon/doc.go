// Package amazon is what sinks to services of AWS have in common: addresses, credentials, connections, what a message looks like there, which
// messages go in one request, and what comes of them.
//
//	batch ─▶ Render each ─▶ requests of ten at most, within max_message_bytes in all ─▶ the id of each in Successful ─▶ accepted
//	           │                          ├─ an entry in Failed ─▶ that one fails, by its code
//	           │                          └─ the whole request is refused for what is in it ─▶ each once more, alone
//	           └─ too large, headers that are none ─▶ permanent, before anything is sent
//
// The client library tries nothing again by itself: what got no answer is the relay's to repeat.
//
// A message has eight attributes at most of the ten that the services take: whoever subscribes can have two headers as attributes of their own.
package amazon
