// Package sinks is the contract between the relay and the destinations it delivers to.
//
//	relay ── Deliver(batch) ───────▶ Sink    webhooks, NATS, standard output: the batch is settled when Deliver returns
//	      ── Send(delivery, done) ─▶ Sender  deliveries that end one by one: a slow one delays its key and nothing else
//
// A sink hands messages to one destination and says, per message, what came of it. It knows neither PostgreSQL nor
// cursors nor retries: it classifies a failure, and the relay decides what to do about it.
//
//	outcome                      kind              meaning                              the relay
//	nil                          KindAccepted      the destination confirmed it         settles the message
//	Leased                       KindLeased        a callback will tell what came       parks it until then, or until the lease is over
//	Snoozed                      KindSnoozed       who took it wants it later           parks it until then; no attempt counts
//	Released                     KindReleased      it was given back as it was          delivers it again at once; no attempt counts
//	Failed                       KindFailed        this attempt failed, the             parks it and tries again with backoff; dead after max attempts
//	                                               destination is up
//	Lost                         KindLost          who had it is gone                   as Failed, and tries again at once
//	Retryable, any other error   KindRetryable     this message failed                  parks it and tries again with backoff; dead after max attempts
//	Permanent                    KindPermanent     this message can never work          makes it a dead letter at once, with the reason
//	Unavailable                  KindUnavailable   the destination is down              opens the breaker, unless others get through: probes
//	Misconfigured                KindMisconfigured it is up, and set up so that nothing  as Unavailable, and says that somebody has to change
//	                                               can be delivered                     something
//	Gone                         KindGone          the destination wants no more        pauses the subscription and says so
//
// A Sender whose deliveries may outlive it is a Relinquisher, too: when the relay stops, it hands over what is out instead of waiting for it.
// A Lessor does that also with what takes long, and says itself what comes of it.
//
// AsSink and AsSender turn one contract into the other. Wrap puts stages around any sink: filters, transformations, redaction, counts.
//
// Package sinktest is the conformance suite that every sink passes, and has the reference of a Sender.
package sinks
