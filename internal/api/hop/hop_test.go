package hop

import (
	"fmt"
	"testing"
	"time"
)

// TestSignaturesAreBound: to the key, the verb, the relay, the time and the body.
func TestSignaturesAreBound(t *testing.T) {
	now := time.Now().UnixMilli()
	header := func(key, verb, target string, at int64, body string) string {
		return fmt.Sprintf("%s %d %s", target, at, signature([]byte(key), verb, target, at, []byte(body)))
	}
	for name, c := range map[string]struct {
		header string
		right  bool
	}{
		"right":         {header("key", "take", "me", now, "{}"), true},
		"another key":   {header("yek", "take", "me", now, "{}"), false},
		"another verb":  {header("key", "beat", "me", now, "{}"), false},
		"another relay": {header("key", "take", "you", now, "{}"), false},
		"another body":  {header("key", "take", "me", now, "{ }"), false},
		"old":           {header("key", "take", "me", now-oldest.Milliseconds()-1000, "{}"), false},
		"from later":    {header("key", "take", "me", now+oldest.Milliseconds()+1000, "{}"), false},
		"nothing":       {"", false},
	} {
		if err := Verify([]byte("key"), "me", c.header, "take", []byte("{}")); (err == nil) != c.right {
			t.Errorf("%s: %v", name, err)
		}
	}
	if Verify(nil, "me", header("", "take", "me", now, "{}"), "take", []byte("{}")) == nil {
		t.Error("no key at all lets everybody in")
	}
}
