package webhook

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook/internal/sign"
	"github.com/postrider/postrider/sinks/webhook/internal/transport"
)

// The formats of requests, for Options.Format.
const (
	FormatRaw        = "raw"        // one message: the body is its payload, headers say the rest once
	FormatBinary     = "binary"     // likewise, and CloudEvents attributes are headers as well
	FormatStructured = "structured" // one message as a CloudEvent in JSON
	FormatBatch      = "batch"      // several CloudEvents in a JSON array
	FormatNDJSON     = "ndjson"     // several CloudEvents in JSON, one per line
)

// DefaultBatchBytes is the default of Options.BatchBytes.
const DefaultBatchBytes = 1 << 20

const (
	minBatchBytes = 1 << 10
	maxBatchBytes = 64 << 20
)

// Options are the settings of a subscription that only webhooks have. The zero value means the defaults named beside each.
type Options struct {
	// Format is raw (default: the body is the payload), or one of CloudEvents: binary (likewise, and its attributes are headers),
	// structured (application/cloudevents+json), batch (application/cloudevents-batch+json) or ndjson (one event per line).
	Format string `json:"format,omitempty"`
	// BatchBytes bounds the body of a batch. Default 1 MiB.
	BatchBytes int `json:"batch_bytes,omitempty"`
	// Type is the CloudEvents type, in their formats. Default: the topic.
	Type string `json:"type,omitempty"`
	// Source is the CloudEvents source, a URI reference, in their formats. Default: /postrider/ and the source id.
	Source string `json:"source,omitempty"`
	// Secrets are references (env:NAME, file:/path) to secrets of Standard Webhooks: whsec_… (HMAC-SHA256, v1) and whsk_…
	// (ed25519, v1a). All of them sign, so that they can be rotated without a gap.
	Secrets []string `json:"secrets,omitempty" secret:"reference"`
	// Headers are sent with every request. A value may be a reference.
	Headers map[string]string `json:"headers,omitempty"`
	// Basic is a reference to user:password.
	Basic string `json:"basic,omitempty" secret:"reference"`
	// Bearer is a reference to a token.
	Bearer string        `json:"bearer,omitempty" secret:"reference"`
	TLS    TLSOptions    `json:"tls,omitzero"`
	Guard  guard.Options `json:"guard,omitzero"`
	// Proxy is empty (none), environment, a URL without user info, or a reference to a URL: http or https.
	Proxy string `json:"proxy,omitempty" secret:"reference"`
	// HTTP2 false keeps to HTTP/1.1. Default: HTTP/2 where TLS negotiates it.
	HTTP2 *bool `json:"http2,omitempty"`
	// Dead and Retry change what statuses from 300 to 599 mean: that the message is dead at once, or is tried again.
	Dead  []int `json:"dead,omitempty"`
	Retry []int `json:"retry,omitempty"`
	// RetryAfterMax caps what a destination may ask for. Default 1h.
	RetryAfterMax sinks.Duration `json:"retry_after_max,omitempty"`
	// Rate is the most requests per second, Burst how many may begin at once (default: a tenth of a second's worth, at least
	// one). Default: no limit.
	Rate  float64 `json:"rate,omitempty"`
	Burst int     `json:"burst,omitempty"`
	// Concurrency is adaptive (default) or fixed; lanes are the bound of both.
	Concurrency string `json:"concurrency,omitempty"`
	Answers
	// Async gives the answer 202 another meaning: the receiver leases the message, and a callback will settle it. It
	// excludes the formats with several events.
	Async bool `json:"async,omitempty"`
	// AsyncLease is how long a receiver may be silent after a 202 before the message is delivered again, from one second to
	// seven days; the receiver may choose another. Default 10m.
	AsyncLease sinks.Duration `json:"async_lease,omitempty"`
}

// Answers say what is kept of accepting answers.
type Answers struct {
	// Receipts is how many bytes of an answer's body are kept for delivered messages, see Config.Receipt. Default 0: none.
	Receipts int `json:"receipts,omitempty"`
	// KeepResult keeps the body of an accepting answer as the message's result, if it is JSON of at most 64 KiB. It excludes the formats with
	// several events.
	KeepResult bool `json:"keep_result,omitempty"`
}

// TLSOptions say whom to trust and who we are.
type TLSOptions = transport.TLSOptions

// ParseOptions decodes the options of a subscription, and checks them. Errors are sinks.OptionsErrors. Empty text means the defaults.
func ParseOptions(text []byte) (o Options, err error) {
	if err := sinks.DecodeOptions(text, &o); err != nil {
		return o, err
	}
	if err := o.Validate(); err != nil {
		return o, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	return o, nil
}

func (o Options) withDefaults() Options {
	o.Format = cmp.Or(o.Format, FormatRaw)
	o.BatchBytes = cmp.Or(o.BatchBytes, DefaultBatchBytes)
	o.RetryAfterMax = cmp.Or(o.RetryAfterMax, sinks.Duration(DefaultRetryAfterMax))
	o.Concurrency = cmp.Or(o.Concurrency, ConcurrencyAdaptive)
	if o.Async {
		o.AsyncLease = cmp.Or(o.AsyncLease, sinks.Duration(DefaultAsyncLease))
	}
	return o
}

// Validate says which option is wrong, and what would be right. It follows no reference and opens no file.
func (o Options) Validate() error {
	o = o.withDefaults()
	for _, check := range []func() error{o.checkFormat, o.checkSecrets, o.checkAuth, o.checkHeaders, o.checkStatuses, o.checkRate, o.checkAsync, o.TLS.Check,
		o.checkGuard, o.checkProxy} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) checkProxy() error { return transport.CheckProxy(o.Proxy, o.Guard.PublicOnly) }

func (o *Options) checkGuard() error {
	_, err := guard.New(o.Guard)
	return err
}

func (o *Options) checkFormat() error {
	switch o.Format {
	case FormatRaw, FormatBinary, FormatStructured, FormatBatch, FormatNDJSON:
	default:
		return sinks.Unknown(fmt.Errorf("format %q: must be raw, binary, structured, batch or ndjson", o.Format))
	}
	if o.BatchBytes < minBatchBytes || o.BatchBytes > maxBatchBytes {
		return fmt.Errorf("batch_bytes %d: must be from %d to %d", o.BatchBytes, minBatchBytes, maxBatchBytes)
	}
	for setting, value := range map[string]string{"type": o.Type, "source": o.Source} {
		if attribute(value) != value {
			return fmt.Errorf("%s %q: must be UTF-8 text without control characters", setting, value)
		}
	}
	if _, err := url.Parse(o.Source); err != nil || strings.ContainsAny(o.Source, " \"<>\\^`{|}") {
		return fmt.Errorf("source %q: must be a URI reference, such as /shop or https://shop.example/orders", o.Source)
	}
	if o.Format != FormatRaw {
		return nil
	}
	for _, attribute := range []struct{ name, value string }{{"type", o.Type}, {"source", o.Source}} {
		if attribute.value != "" {
			return fmt.Errorf("%s is %q and format is raw: it is an attribute of CloudEvents, so that the format must be binary, structured, batch or ndjson",
				attribute.name, attribute.value)
		}
	}
	return nil
}

func (o *Options) checkSecrets() error {
	if len(o.Secrets) > sign.Max {
		return fmt.Errorf("secrets holds %d references: at most %d can sign", len(o.Secrets), sign.Max)
	}
	for i, ref := range o.Secrets {
		if _, err := secret.ParseReference(secretSetting(i), ref); err != nil {
			return err
		}
	}
	return nil
}

func secretSetting(i int) string { return fmt.Sprintf("secrets[%d]", i) }
