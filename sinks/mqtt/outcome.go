package mqttsink

import (
	"errors"
	"fmt"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/wire"
)

// code is a reason of the standard: section 2.4.
type code struct {
	text string
	// of says whose it is when a connection is refused or ended: whoever has set things up, a message's, or, by default, nobody's for long.
	of fault
	// answer makes an outcome of it when it is said of a message.
	answer func(error) error
}

type fault int

const (
	passing fault = iota
	setup
	message
)

func retryable(err error) error   { return sinks.Retryable(err, 0) }
func unavailable(err error) error { return sinks.Unavailable(err, 0) }

var codes = map[byte]code{
	0x80: {"unspecified error", passing, retryable},
	0x81: {"malformed packet", message, sinks.Permanent},
	0x82: {"protocol error", message, sinks.Permanent},
	0x83: {"implementation specific error", passing, retryable},
	0x84: {"the broker does not speak MQTT 5", setup, sinks.Misconfigured},
	0x85: {"client identifier not valid: correct the option client_id", setup, sinks.Misconfigured},
	0x86: {"user or password is wrong", setup, sinks.Misconfigured},
	0x87: {"not authorised: allow it, or correct the options user and password", setup, sinks.Misconfigured},
	0x88: {"server unavailable", passing, unavailable},
	0x89: {"server busy", passing, unavailable},
	0x8A: {"banned", setup, sinks.Misconfigured},
	0x8B: {"server shutting down", passing, unavailable},
	0x8C: {"bad authentication method", setup, sinks.Misconfigured},
	0x8D: {"keep alive timeout", passing, unavailable},
	0x8E: {"the session was taken over: another client has the same client_id", setup, sinks.Misconfigured},
	0x90: {"topic name invalid", message, sinks.Permanent},
	0x91: {"packet identifier in use", passing, retryable},
	0x93: {"receive maximum exceeded", passing, unavailable},
	0x95: {"packet too large", message, sinks.Permanent},
	0x96: {"message rate too high", passing, unavailable},
	0x97: {"quota exceeded", passing, unavailable},
	0x98: {"administrative action", passing, unavailable},
	0x99: {"payload format invalid", message, sinks.Permanent},
	0x9A: {"retain not supported: leave the option retain out", setup, sinks.Misconfigured},
	0x9B: {"QoS not supported", setup, sinks.Misconfigured},
	0x9C: {"use another server", setup, sinks.Misconfigured},
	0x9D: {"server moved", setup, sinks.Misconfigured},
	0x9F: {"connection rate exceeded", passing, unavailable},
	0xA0: {"maximum connect time", passing, unavailable},
}

func codeText(c byte) string {
	if known, ok := codes[c]; ok {
		return fmt.Sprintf("%s (0x%02X)", known.text, c)
	}
	return fmt.Sprintf("reason 0x%02X", c)
}

// ofMessage makes an outcome of what was said of one message.
func ofMessage(r *refusal) error {
	if known, ok := codes[r.code]; ok {
		return known.answer(r)
	}
	return sinks.Retryable(r, 0)
}

// outcomeOf makes an outcome of an error that is not about one message. A doubt stays one: whose it is shows later.
func outcomeOf(err error) error {
	if d, ok := err.(*doubt); ok {
		return d
	}
	if fault := wire.Fault(err); fault != nil {
		return sinks.Misconfigured(fault)
	}
	if errors.Is(err, errNoQoS) || errors.Is(err, errNoRetain) || errors.Is(err, errOld) || errors.Is(err, errNoMQTT) {
		return sinks.Misconfigured(err)
	}
	if r, ok := errors.AsType[*refusal](err); ok && codes[r.code].of == setup {
		return sinks.Misconfigured(err)
	}
	return sinks.Unavailable(err, 0)
}
