// Package callback is how a receiver that has taken work with a 202 says what came of it: by a request to a signed URL.
//
//	URLs.URL(subscription, id, token) ─▶ <base>/callbacks/<subscription>/<id>/<token>/<signature>   in a header of the delivery
//	POST <that URL>/complete | /fail | /heartbeat ─▶ Handler ─▶ URLs.Read ─▶ Attempt ─▶ Store: complete, fail or heartbeat in the database
//
// Invariants: who knows such a URL may settle that attempt and nothing else. The signature is compared in constant time, and no two paths
// mean one attempt. A body is read only once the signature has been verified. A callback that comes before its delivery is recorded waits for
// that; one whose attempt is over is told so, and changes nothing. The first of the secrets signs, all verify, so that they can be replaced while URLs are out. Errors show no secret.
package callback
