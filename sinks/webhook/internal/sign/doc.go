// Package sign makes the signatures of Standard Webhooks.
//
//	reference ── secret.Watch, Parse ──▶ Signers ── Header(now, id, timestamp, body) ──▶ v1,… v1a,…
//
// All secrets of all references sign, so that they can be rotated without a gap. whsec_ secrets sign with HMAC-SHA256 (v1), whsk_ ones with
// ed25519 (v1a), over "id.timestamp.body". Errors tell which secret is wrong and show none; a Signer is a function, so that nothing can
// print its key.
package sign
