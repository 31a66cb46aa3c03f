// Package destination knows the kinds of destinations of this build: which scheme of a sink's URL leads to which sink, what is wrong with
// a sink and its options, which defaults its kind has, and what of it may be shown.
//
//	sink URL ── scheme ──▶ kind ──▶ Open      the sink, for the relay
//	                            ├─▶ Check     what is wrong, without connecting
//	                            ├─▶ Defaults  settings that are the kind's own
//	                            └─▶ Examine   what will never confirm a message, for the doctor
//	sink URL, options ──▶ Redact, RedactOptions, RedactSettings
//
// Invariant: nothing that Redact… returns, and no error, shows a secret; references to secrets (env:NAME, file:/path) show.
package destination
