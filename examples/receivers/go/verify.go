package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const tolerance = 5 * time.Minute // between the sender's clock and ours

// parseSecrets reads whsec_ secrets separated by blanks.
func parseSecrets(text string) (secrets [][]byte, err error) {
	for word := range strings.FieldsSeq(text) {
		encoded, ok := strings.CutPrefix(word, "whsec_")
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(secret) == 0 {
			return nil, errors.New("WEBHOOK_SECRET must hold whsec_ and base64, or several of them separated by blanks")
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 {
		return nil, errors.New("WEBHOOK_SECRET is not set")
	}
	return secrets, nil
}

// verify returns nil if one of the signatures is by one of the secrets. The body is what came, byte for byte.
func verify(secrets [][]byte, h http.Header, body []byte, now time.Time) error {
	id, timestamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || err != nil {
		return errors.New("webhook-id or webhook-timestamp is missing")
	}
	if age := now.Sub(time.Unix(seconds, 0)); age.Abs() > tolerance {
		return fmt.Errorf("webhook-timestamp %s is too far from now", timestamp)
	}
	for signature := range strings.FieldsSeq(h.Get("webhook-signature")) {
		encoded, ok := strings.CutPrefix(signature, "v1,")
		got, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil {
			continue // another scheme
		}
		for _, secret := range secrets {
			mac := hmac.New(sha256.New, secret)
			fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
			if hmac.Equal(got, mac.Sum(nil)) { // takes the same time wherever they differ
				return nil
			}
		}
	}
	return errors.New("no signature verifies")
}

// event is what has an id: a message, or one of a batch.
type event struct {
	id   string
	body []byte
}

// split takes batches apart, whose events may come again in another batch. All other requests hold one message.
func split(h http.Header, body []byte) (events []event, err error) {
	id := h.Get("webhook-id")
	if !strings.HasPrefix(id, "batch_") {
		return []event{{id, body}}, nil
	}
	var all []json.RawMessage
	if h.Get("content-type") == "application/x-ndjson" {
		for line := range bytes.Lines(body) {
			all = append(all, line)
		}
	} else {
		err = json.Unmarshal(body, &all)
	}
	for _, raw := range all {
		var e struct{ ID string }
		err = errors.Join(err, json.Unmarshal(raw, &e))
		events = append(events, event{e.ID, raw})
	}
	return events, err
}
