// Package callback is how a receiver that has taken work with a 202 says what came of it: by a request to a signed URL.
//
//	URLs.URL(subscription, id, token) ─▶ <base>/callbacks/<subscription>/<id>/<token>/<signature>   in a header of the delivery
//	POST <that URL>/complete | /fail | /heartbeat ─▶ URLs.Read ─▶ Attempt ─▶ complete, fail or heartbeat in the database
//
// Invariants: who knows such a URL may settle that attempt and nothing else. The signature is compared in constant time, and no two paths
// mean one attempt. The first of the secrets signs, all verify, so that they can be replaced while URLs are out. Errors show no secret.
package callback
