package natssink

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseURL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]Config{
		"nats://host:4222":  {Servers: []string{"nats://host:4222"}},
		"tls://host/":       {Servers: []string{"tls://host"}},
		"nats://[::1]:4222": {Servers: []string{"nats://[::1]:4222"}},
		"nats://joe:p%40w@a:1,b:2?stream=ORDERS&prefix=pg.": {
			Servers: []string{"nats://joe:p%40w@a:1", "nats://joe:p%40w@b:2"}, Stream: "ORDERS", Prefix: "pg.",
		},
		"nats://host?core=1":        {Servers: []string{"nats://host"}, Core: true},
		"nats://host?creds=" + file: {Servers: []string{"nats://host"}, CredsFile: file},
		"nats://host?ca=" + file + "&cert=" + file + "&key=" + file + "&ack_timeout=2s&max_pending=9": {
			Servers: []string{"nats://host"}, CAFile: file, CertFile: file, KeyFile: file, AckTimeout: 2 * time.Second, MaxPending: 9,
		},
	} {
		if got, err := ParseURL(raw); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseURL(%q) = %+v, %v\nwant %+v", raw, got, err, want)
		}
	}
}

func TestParseURLNamesTheMistake(t *testing.T) {
	for raw, want := range map[string]string{
		"":                               "begins with nats:// or tls://",
		"http://host":                    "begins with nats:// or tls://",
		"nats://":                        "names no host",
		"nats://a,":                      "names no host",
		"nats://host:port":               "invalid port",
		"nats://joe:sec/ret@host":        "percent-encoded",
		"nats://host/ORDERS":             "something behind the port",
		"nats://host?steam=ORDERS":       `unknown setting "steam": known are ack_timeout, ca, cert, core, creds, key, max_pending, prefix, stream`,
		"nats://host?core=maybe":         `core is "maybe": it must be 1 or 0`,
		"nats://host?stream=A&stream=B":  `"stream" 2 times`,
		"nats://host?stream=A.B":         `stream "A.B"`,
		"nats://host?stream=A&core=true": "use one of the two",
		"nats://host?prefix=a..":         `prefix "a.."`,
		"nats://host?prefix=$JS.API.":    "belong to NATS itself",
		"nats://host?ack_timeout=5":      `ack_timeout is "5"`,
		"nats://host?max_pending=0":      `max_pending is "0"`,
		"nats://host?cert=/nowhere/x":    "takes both files",
		"nats://host?stream=%zz":         "cannot be parsed",
	} {
		_, err := ParseURL(raw)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ret@") {
			t.Errorf("ParseURL(%q): %v, want %q", raw, err, want)
		}
	}
}
