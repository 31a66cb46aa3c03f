// Package interop checks what goes out against public libraries of receivers, in a module of its own so that they are no
// dependency of the product.
package interop

import (
	_ "github.com/cloudevents/sdk-go/v2"
	_ "github.com/postrider/postrider/sinks/webhook"
	_ "github.com/standard-webhooks/standard-webhooks/libraries/go"
)
