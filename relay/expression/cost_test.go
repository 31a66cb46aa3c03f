package expression

import (
	"strings"
	"testing"
)

// What is not counted has neither loops nor what makes texts longer; it says the same as what is, and on a large message everything is counted.
func TestQuickPrograms(t *testing.T) {
	for text, want := range map[string]bool{
		`payload.total > 100 && headers.region == "eu"`: true, `!has(payload.a) || payload.?b.orValue(1) == 2`: true, `topic.startsWith("a") ? id % 2 == 0 : payload.items[0].n in [1, 2]`: true,
		`created_at < timestamp("2026-05-05T00:00:00Z")`: true, `size(payload.items) > 1`: true,
		`payload.items.exists(i, i.n > 1)`: false, `topic + key == ""`: false, `topic.matches("a+")`: false, `string(payload.total) == "1"`: false,
	} {
		p, m := filter(t, text), order()
		if is := p.quick != nil; is != want {
			t.Errorf("%s: quick is %t", text, is)
		}
		if p.quick == nil {
			continue
		}
		if p.programFor(m) != p.quick {
			t.Errorf("%s: it is counted", text)
		}
		quickly, _, err := p.quick.Eval(new(Memo).memory(m))
		counted, _, countedErr := p.program.Eval(new(Memo).memory(m))
		if (err == nil) != (countedErr == nil) || err == nil && quickly.Equal(counted).Value() != true {
			t.Errorf("%s: %v, %v and %v, %v", text, quickly, err, counted, countedErr)
		}
		m.Payload = []byte(`"` + strings.Repeat("a", small) + `"`)
		if p.programFor(m) != p.program {
			t.Errorf("%s: it is not counted on a large message", text)
		}
	}
}

// BenchmarkSmall is a payload of about 200 bytes, and a filter that looks at one of its numbers.
func BenchmarkSmall(b *testing.B) {
	m := order()
	m.Payload = []byte(`{"n": 123456, "pad": "` + strings.Repeat("abcdefghij", 20) + `"}`)
	p := filter(b, `payload.n > 0 && topic.startsWith("orders.")`)
	b.ReportAllocs()
	for b.Loop() {
		var memo Memo
		if is, _, err := p.Wants(m, &memo); !is || err != nil {
			b.Fatal(err)
		}
	}
}
