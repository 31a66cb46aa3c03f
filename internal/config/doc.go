// Package config reads what a process is told: the environment, and files of subscriptions. It says what is wrong with them by the names
// that a person has written, and all of a file's problems at once, each with its line.
//
//	environment ── envconfig ──▶ Settings (a member is a setting, its tags say all of it) ──┬─▶ the relay, HTTP, callbacks, logs
//	            └─ subscription.Fields ─▶ JSON ─▶ Settings.OfSubscription ─┐                ├─▶ Variables, Markdown, Warnings
//	YAML file ── nodes ── subscription.Fields ─▶ JSON ─────────────────────┴─▶ []subscription.Spec
//
// To add a setting of the process, add a member to Settings; one of subscriptions, an entry to subscription.Fields. Nothing else.
//
// Invariants: a variable that is set to nothing counts as not set, but for addresses to listen on, where nothing means nowhere. The
// environment is read, never changed. No error and no listing shows a secret.
package config
