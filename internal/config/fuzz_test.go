package config

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
)

// FuzzFile: a file is read, or its problems are told, each with a line that it has; what is read is valid.
func FuzzFile(f *testing.F) {
	const head = "subscriptions:\n  - name: a\n    topics: [x]\n    sink: 'stdout:'\n"
	for _, text := range []string{
		head, head + "    lanes: 0\n", head + "    start: yesterday\n    max_parked: 1\n", "", "- a\n", "subscriptions: [\n", "a: &a\n  b: *a\n",
		"subscriptions:\n  - &a\n    name: a\n    topics: &t [orders.>, 'a.*']\n    sink: https://h/${HOME}\n  - {<<: *a, name: b, topics: *t, timeout: 5s}\n",
		head + "    <<: {lanes: 2}\n", "subscriptions:\n  - name: a\n    topics: [>]\n", "subscriptions:\n- name: |\n    a\n  topics: [!!str x]\n",
		"---\n" + head + "---\n" + head, "? a\n: b\n", "subscriptions: *nobody\n", "subscriptions: &s\n  - *s\n", "&a <<: *a\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := newFileReader(destination.CheckElsewhere)
		specs := r.read(text)
		for _, p := range r.problems {
			if lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 1; p.line < 1 || p.line > lines {
				t.Errorf("line %d of %d: %s", p.line, lines, p.text)
			}
			if p.text == "" {
				t.Errorf("line %d: a problem without words", p.line)
			}
		}
		if len(r.problems) > 0 {
			return
		}
		if len(specs) == 0 {
			t.Error("neither a subscription nor a problem")
		}
		names := map[string]bool{}
		for _, s := range specs {
			settings := s.Settings
			err := errors.Join(subscription.CheckName(s.Name), subscription.CheckTopics(s.Topics), subscription.CheckStart(s.Start), destination.CheckElsewhere(s.Subscription), settings.Validate())
			if err != nil || names[s.Name] {
				t.Errorf("no problem with %+v, but %v", s, err)
			}
			names[s.Name] = true
		}
	})
}

// FuzzSettingTypes: what a setting is read as, it is shown as, and that is read as the same again.
func FuzzSettingTypes(f *testing.F) {
	for _, text := range []string{"", "0", "64MiB", "1GB", "9223372036854775807B", "8388608TiB", "-1", " 5 kib ", "1.5h", "2562047h47m16.854775807s",
		"24h", "1h0m1s", "90m", "300us", "1e3", "0x10", "1_000", "orders.>, payments.*,,", "٣s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var d, d2 duration
		if d.Decode(text) == nil && (d < 0 || d2.Decode(d.String()) != nil || d != d2 || time.Duration(d).String() != time.Duration(d2).String()) {
			t.Errorf("%q is the duration %s, and that %s", text, d, d2)
		}
		var b, b2 ByteSize
		if b.Decode(text) == nil && (b < 0 || b2.Decode(b.String()) != nil || b != b2) {
			t.Errorf("%q is the size %s, and that %s", text, b, b2)
		}
		for _, f := range subscription.Fields {
			var s, s2 subscription.Settings
			raw, err := f.Read(text)
			if err != nil {
				continue
			}
			if err := f.Decode(&s, raw); err != nil {
				t.Errorf("%s: %q is read as %s: %v", f.Name, text, raw, err)
			}
			written, err := json.Marshal(s)
			if err == nil {
				s2, err = subscription.DecodeSettings(written)
			}
			if err != nil || !s.Equal(s2) {
				t.Errorf("%s: %q is %s, and that %+v, %v", f.Name, text, written, s2, err)
			}
		}
		var l, l2 topicList
		if err := errors.Join(l.Decode(text), l2.Decode(l.String())); err != nil || l.String() != l2.String() {
			t.Errorf("%q is the list %q, and that %q, %v", text, l, l2, err)
		}
		for name, start := range map[string]error{text: subscription.CheckStart(text), "": subscription.CheckName(text)} {
			if start != nil && !strings.Contains(start.Error(), "must be") {
				t.Errorf("%q: %v does not say what would be right", name, start)
			}
		}
	})
}
