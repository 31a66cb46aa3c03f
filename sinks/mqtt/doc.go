// Package mqttsink publishes messages to brokers that speak MQTT 5.
//
//	Deliver(batch) ─▶ PUBLISH with QoS 1, one for each message, within the broker's receive maximum
//	   ▲                 ├─ PUBACK, reason below 0x80 ──────▶ accepted (0x10, nobody is subscribed: as the subscription says)
//	   │                 ├─ PUBACK, any other reason ───────▶ what that reason says, of this message
//	   └── outcomes ◀────┴─ DISCONNECT with a reason ───────▶ unknown for all without an answer: each once more, alone, if a message may be to blame
//
// One connection carries all batches. It is made when a batch wants one, with a clean start and a session that ends with it: nothing of an earlier one
// is sent again by itself. Packets are those of the library; their way is here, since its client tells of a published message only to who waits
// for that one alone, and keeps a copy of each.
//
// A message has the attributes of CloudEvents as user properties, without a prefix: the binary mode of its MQTT binding.
//
// # What is known before sending
//
// What the broker said when it let us in: how large a packet may be, how many may be without an answer, whether it takes QoS 1 and retained messages.
//
// # What happens on each failure
//
//	no connection, a broker that is busy or shuts down, no answer in time                 unavailable
//	a quota is exceeded (0x97)                                                            unavailable
//	wrong user or password, not authorised, the session was taken over by another client with the same
//	    client_id, no QoS 1, no retained messages though they are wanted, TLS, the guard  misconfigured
//	not authorised for that topic (0x87), nobody is subscribed (0x10, unless dropped)     misconfigured for that message
//	larger than the broker takes, a topic or a header that MQTT cannot carry              permanent, before anything is sent
//	topic or payload refused (0x90, 0x95, 0x99)                                           permanent for that message
//	any other reason                                                                      retryable for that message
//
// # Invariants
//
//   - Nothing is accepted without a PUBACK.
//   - What got no answer in time is withdrawn as far as that can be: the connection is reset, so that the broker's kernel drops what nobody has read.
//   - What a broker can make us keep in memory is bounded, whatever it sends.
package mqttsink
