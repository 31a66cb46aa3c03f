package relay

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/outbox/topic"
)

// A topic against what a subscription may have for patterns.
func BenchmarkMatch(b *testing.B) {
	for _, patterns := range []string{">", "orders.created", "orders.*", "orders.>", "a.>,b.>,*.c,d.e.f,orders.*"} {
		m, err := topic.NewMatcher(strings.Split(patterns, ","))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(patterns, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !m.Match("orders.created") {
					b.Fatal("no match")
				}
			}
		})
	}
}
