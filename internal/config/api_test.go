package config

import (
	"strings"
	"testing"
)

// TestAPIAddressNeedsTokens: an address that others reach is refused while whoever calls may do everything.
func TestAPIAddressNeedsTokens(t *testing.T) {
	const tokens = "ops:operator=env:OPS"
	for _, c := range []struct{ addr, url, tokens, wrong string }{
		{addr: "127.0.0.1:8482"},
		{addr: "[::1]:8482", url: "http://localhost:8482"},
		{addr: "0.0.0.0:8482", url: "http://relay-1.internal:8482", tokens: tokens},
		{addr: ":8482", url: "https://relay-1.internal", tokens: tokens},
		{addr: "off"},
		{addr: "0.0.0.0:8482", wrong: "POSTRIDER_API_ADDR=0.0.0.0:8482: without POSTRIDER_API_TOKENS it must be an address that this machine alone can reach, such as 127.0.0.1:8482"},
		{addr: ":8482", wrong: "without POSTRIDER_API_TOKENS"},
		{addr: "relay-1:8482", wrong: "without POSTRIDER_API_TOKENS"},
		{addr: "8482", tokens: tokens, wrong: "must be an address of this machine with a port"},
		{addr: "127.0.0.1:8482", url: "http://relay-1.internal:8482", wrong: "POSTRIDER_API_URL=http://relay-1.internal:8482: must be an address of this machine"},
		{addr: "127.0.0.1:8482", url: "ftp://localhost", wrong: "must look like http://127.0.0.1:8482"},
		{url: "http://localhost:8482", wrong: "needs POSTRIDER_API_ADDR"},
		{addr: "127.0.0.1:8482", tokens: "not-a-reference", wrong: "POSTRIDER_API_TOKENS: token 1: must look like NAME:ROLE=REFERENCE"},
	} {
		t.Setenv("POSTRIDER_API_ADDR", c.addr)
		t.Setenv("POSTRIDER_API_URL", c.url)
		t.Setenv("POSTRIDER_API_TOKENS", c.tokens)
		switch _, err := Load(""); {
		case c.wrong == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%+v: %v", c, err)
		case err != nil && strings.Contains(err.Error(), "not-a-reference"):
			t.Errorf("what may be a secret shows: %v", err)
		}
	}
}
