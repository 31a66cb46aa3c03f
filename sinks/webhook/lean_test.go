package webhook

import (
	"maps"
	"slices"
	"testing"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// Each header costs the receiver something, on every request: all are here, and nothing is said twice, or is said that goes without saying.
func TestHeadersSayThingsOnce(t *testing.T) {
	always := []string{"content-length", "content-type", "postrider-subscription", "user-agent", "webhook-id"}
	bare := append([]string{"postrider-topic"}, always...)
	event := []string{"ce-id", "ce-source", "ce-specversion", "ce-time", "ce-type"}
	keyed := func(d *sinks.Delivery) { d.Key = "k" }
	again := func(d *sinks.Delivery) { d.Attempt, d.Priority = 2, 1 }
	for _, c := range []struct {
		format string
		secret string
		change func(*sinks.Delivery)
		want   []string
	}{
		{"", "", nil, bare},
		{FormatRaw, "", keyed, append([]string{"postrider-key"}, bare...)},
		{FormatRaw, "", again, append([]string{"postrider-attempt", "postrider-priority"}, bare...)},
		{FormatRaw, sampleSecret, nil, append([]string{"webhook-signature", "webhook-timestamp"}, bare...)},
		{FormatBinary, "", nil, append(event, bare...)},
		{FormatBinary, "", keyed, slices.Concat(event, bare, []string{"postrider-key", "ce-subject", "ce-partitionkey"})},
		{FormatStructured, "", nil, always},
		{FormatStructured, sampleSecret, func(d *sinks.Delivery) { keyed(d); again(d) }, append([]string{"webhook-signature", "webhook-timestamp"}, always...)},
		{FormatBatch, "", keyed, always},
		{FormatNDJSON, "", keyed, always},
	} {
		r := new(receiver)
		o := Options{Format: c.format}
		if c.secret != "" {
			t.Setenv("POSTRIDER_TEST_SECRET", c.secret)
			o.Secrets = []string{"env:POSTRIDER_TEST_SECRET"}
		}
		d := sinktest.NewDelivery("orders.created", "1")
		if c.change != nil {
			c.change(&d)
		}
		plain, secure := serve(t, r.ServeHTTP), serveTLS(t, nil, r)
		for _, url := range []string{plain.URL, secure.URL} {
			o.TLS = skipVerify
			s := open(t, Config{URL: url, Options: o})
			sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
			got := slices.Sorted(maps.Keys(r.last(t).Headers))
			if want := slices.Sorted(slices.Values(c.want)); !slices.Equal(got, want) {
				t.Errorf("format %q, %s: the headers are %q, want %q", c.format, url, got, want)
			}
		}
	}
}
