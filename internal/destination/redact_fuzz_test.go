package destination

import (
	"net/url"
	"strings"
	"testing"

	"github.com/postrider/postrider/relay/subscription"
)

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
		for _, scheme := range []string{"https://", "nats://", "tls://", "kafka://"} {
			var sinks []string
			for _, s := range secrets(before, after) {
				sinks = append(sinks, scheme+"u:"+s+"@"+host, scheme+s+"@"+host+"?stream=S", scheme+"u:"+s+"@"+host+"/path?x=y")
			}
			if encoded := url.QueryEscape(before + marked + after); secretName.MatchString(name) {
				sinks = append(sinks, scheme+host+"?"+name+"="+encoded, scheme+"u@"+host+"/p?a=b&"+name+"="+encoded+"&c=d")
			}
			for _, sink := range sinks {
				if shown := Redact(sink); strings.Contains(shown, marked) {
					t.Errorf("%q is shown as %q", sink, shown)
				}
				if err := CheckElsewhere(subscription.Subscription{Sink: sink}); err != nil && strings.Contains(err.Error(), marked) {
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
			if shown := RedactDatabase(config); strings.Contains(shown, marked) {
				t.Errorf("%q is shown as %q", config, shown)
			}
		}
	})
}
