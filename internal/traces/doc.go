// Package traces tells OpenTelemetry of each attempt to deliver a message: a span, linked to the context in which the message was made.
//
//	environment ── Read ──▶ Config ── Start ──▶ Traces ── Around ──▶ every sink with a stage around it
//	                └ nil: off                   attempts ── stage ── sampler ── queue ── exporter ──▶ collector
//
// Off, nothing of this is made: no stage is around any sink, and nothing is connected to. That is so unless the variables of OpenTelemetry's
// specification say where traces go (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
//
// Invariants:
//
//   - A span is made when its attempt has ended, so an attempt that lasts for days costs no more than its time of beginning.
//   - What is sent on is the message as it was, with the context of whoever made it: receivers join that trace, and the link joins the span to it.
//   - The sampler decides as if the span were a part of the message's trace: who traces one order in a hundred sees its deliveries, and no others.
//   - A span has no payload, no key, no text of a receiver's, and no secret.
//
// On failure: a collector that is down, slow or hostile costs spans and a line in the log now and then. Nothing waits for it but the end of the
// process, and that for so long at most. Values that cannot be are refused at the start.
package traces
