package main

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

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
		r := fileReader{check: checkSinkElsewhere, anchors: anchors{}, names: map[string]int{}}
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
			err := errors.Join(checkName(s.Name), checkTopics(s.Topics), checkStart(s.start), checkSinkElsewhere(s.Subscription), settings.Validate())
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
		var b, b2 byteSize
		if b.Decode(text) == nil && (b < 0 || b2.Decode(b.String()) != nil || b != b2) {
			t.Errorf("%q is the size %s, and that %s", text, b, b2)
		}
		var c count
		if c.Decode(text) == nil && c < 1 {
			t.Errorf("%q is the count %d", text, c)
		}
		var l, l2 topicList
		if err := errors.Join(l.Decode(text), l2.Decode(l.String())); err != nil || l.String() != l2.String() {
			t.Errorf("%q is the list %q, and that %q, %v", text, l, l2, err)
		}
		for name, start := range map[string]error{text: checkStart(text), "": checkName(text)} {
			if start != nil && !strings.Contains(start.Error(), "must be") {
				t.Errorf("%q: %v does not say what would be right", name, start)
			}
		}
	})
}

// marked is in the middle of every secret here, so that nothing else looks like one.
const marked = "g3h31m"

// endsAuthority are the characters that nobody can tell from the end of an address's host part, if they are not encoded.
const endsAuthority = "/?#\\"

// secrets are a password as people write it into an address: encoded, and as it is.
func secrets(before, after string) []string {
	secret := before + marked + after
	if strings.ContainsAny(secret, endsAuthority) {
		return []string{url.QueryEscape(secret)}
	}
	return []string{secret, url.QueryEscape(secret)}
}

// FuzzRedact puts a secret into every place of a sink's address that may hold one, and looks for it in what is shown.
func FuzzRedact(f *testing.F) {
	for _, s := range []string{"", "pass/word?1", "50%sure", "a@b:c#d", "with space", "[::1]", "ge&heim=nis", "%zz%41bc", "a;b;c;d", "\x00\nline", "\xff"} {
		f.Add(s, "", "host:4222,other", "token")
		f.Add("x", s, "[::1", "X-Amz-Signature")
	}
	f.Fuzz(func(t *testing.T, before, after, host, name string) {
		if strings.ContainsAny(host, "@"+endsAuthority) || strings.ContainsAny(name, "&=#?;+@") || strings.Contains(host+name, marked) {
			return
		}
		for _, scheme := range []string{"https://", "nats://", "tls://"} {
			var sinks []string
			for _, s := range secrets(before, after) {
				sinks = append(sinks, scheme+"u:"+s+"@"+host, scheme+s+"@"+host+"?stream=S", scheme+"u:"+s+"@"+host+"/path?x=y")
			}
			if encoded := url.QueryEscape(before + marked + after); secretName.MatchString(name) {
				sinks = append(sinks, scheme+host+"?"+name+"="+encoded, scheme+"u@"+host+"/p?a=b&"+name+"="+encoded+"&c=d")
			}
			for _, sink := range sinks {
				if shown := redact(sink); strings.Contains(shown, marked) {
					t.Errorf("%q is shown as %q", sink, shown)
				}
				if err := checkSinkElsewhere(subscription.Subscription{Sink: sink}); err != nil && strings.Contains(err.Error(), marked) {
					t.Errorf("%q is refused with %q", sink, err)
				}
			}
		}
	})
}

// FuzzRedactDatabase does the same to connection strings.
func FuzzRedactDatabase(f *testing.F) {
	for _, s := range []string{"", "it's a \\ secret", "pass/word?1", "50%sure", "a@b:c#d", "with space", "ge&heim=nis"} {
		f.Add(s, "", "host")
		f.Add("x", s, "a:1,b:2")
	}
	f.Fuzz(func(t *testing.T, before, after, host string) {
		if strings.ContainsAny(host, "@'= "+endsAuthority) || strings.Contains(host, marked) {
			return
		}
		quoted := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(before+marked+after) + "'"
		configs := []string{"host=" + host + " password=" + quoted + " user=u", "password = " + quoted, "host=" + host + " sslpassword=" + quoted}
		for _, s := range secrets(before, after) {
			configs = append(configs, "postgres://u:"+s+"@"+host+"/db", "postgresql://u:"+s+"@"+host)
		}
		encoded := url.QueryEscape(before + marked + after)
		configs = append(configs, "postgres://"+host+"/db?password="+encoded, "host="+host+" user=u password="+encoded)
		for _, config := range configs {
			if shown := redactDatabase(config); strings.Contains(shown, marked) {
				t.Errorf("%q is shown as %q", config, shown)
			}
		}
	})
}
