// Package secret reads what settings refer to, and keeps it from showing.
//
//	reference (env:NAME, file:/path) ── Store: may it be used? ──▶ Text ── parse ──▶ Watched[T] ──▶ Get(now)
//	                                      └─ learns it: no outcome and no log shows it later
//
// Settings hold references, for they are stored and shown. Who may write subscriptions is not to read everything else that the process
// can: variables begin with Prefix or are named in Store.Variables, files are in Store.Dir, and neither is in Store.Except.
//
// Invariants:
//
//   - A Text prints as a placeholder, whatever prints it. Reveal is the only way to it.
//   - A HiddenError tells whoever reads a subscription's trouble nothing but the reference; Detail is for the operator's log.
//   - All that was read is learned by the Redactor before anybody can use it.
//
// On failure: a reference that cannot be used at first is an error. A file that can no longer be read, or holds nonsense, leaves the
// last value in use, and the log says so once.
package secret
