// Package linktest puts a network that can fail between a client and a server.
//
// A [Link] is a TCP proxy on a fixed loopback port. It can be cut, become half-open
// (connections stay, no byte passes), be slow, and be healed, at any time and for
// the connections that exist as for new ones.
//
//	client ─▶ inlet ─▶ toxiproxy's chain (latency, bandwidth) ─▶ outlet ─▶ gate ─▶ server
//	client ◀─ gate ◀─ outlet ◀─ toxiproxy's chain (latency, bandwidth) ◀─ inlet ◀─ server
//
// Delays and rates are toxiproxy's toxics. Listening, connecting and ending are done
// here, because three habits of toxiproxy's own proxy do not suit a long run:
//
//   - a link whose destination fails while data is under way leaves its goroutines
//     behind. An outlet never fails, it swallows, so every chain runs dry and ends;
//   - changing a toxic waits until the data in front of it has been taken, for ever
//     if the peer is stopped and does not read. An outlet takes everything meanwhile;
//   - a toxic that blocks loses what it was given, which corrupts a connection
//     that is healed. A gate holds it.
//
// An end of stream and a reset travel like data: they wait at a shut gate, so that
// a peer behind a half-open link does not learn that the other one died.
package linktest
