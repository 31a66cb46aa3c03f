package webhook

import (
	"net/http"
	"strings"
)

// control is what an answer asks for beside its status, in the header webhook-delivery. Standard Webhooks calls it delivery
// control; it is a proposed amendment to the specification's section "Delivery success and failure".
type control int

const (
	controlNone control = iota
	// controlAbort: this message will never succeed, others are welcome. It means nothing to a message that is delivered.
	controlAbort
	// controlDisable: the receiver is no longer interested in any message, whatever becomes of this one.
	controlDisable
)

// deliveryControl reads the header. Of several values the one that asks for most counts; unknown ones ask for nothing.
func deliveryControl(header http.Header) control {
	c := controlNone
	for _, value := range header["Webhook-Delivery"] {
		for item := range strings.SplitSeq(value, ",") {
			switch strings.ToLower(strings.TrimSpace(item)) {
			case "abort-message":
				c = max(c, controlAbort)
			case "disable":
				c = max(c, controlDisable)
			}
		}
	}
	return c
}
