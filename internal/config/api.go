package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/destination"
)

// API are the settings of the console, the API and what workers call.
type API struct {
	APIAddr   Text      `split_words:"true" desc:"Where the console, the API and workers of pull: subscriptions are served, such as 127.0.0.1:8482; empty or off: nowhere. Without POSTRIDER_API_TOKENS it must be an address that this machine alone can reach."`
	APIUrl    Text      `split_words:"true" show:"url" desc:"Where other relays reach this one's POSTRIDER_API_ADDR, such as http://127.0.0.1:8482, so that workers may ask any relay for jobs of any subscription."`
	APITokens tokenList `split_words:"true" desc:"Who may use POSTRIDER_API_ADDR: NAME:ROLE=REFERENCE, separated by commas, such as ops:operator=env:OPS_TOKEN,mailer:worker[mail sms]=file:/run/secrets/mailer. Roles: viewer, operator, admin, and worker, whose subscriptions may follow in brackets. Default: whoever reaches the address may do everything."`

	APIHidePayloads flag `split_words:"true" default:"false" desc:"Whether what messages carry is hidden from viewers."`
}

// tokenList is a list of tokens, and what is wrong with it.
type tokenList struct {
	Tokens []access.Token
	err    error
}

// Decode reads the list. What is wrong with it is told later, without what stands there: it may be a secret.
func (l *tokenList) Decode(text string) error {
	l.Tokens, l.err = access.ParseTokens(text)
	return nil
}

// String shows references alone.
func (l tokenList) String() string {
	var texts []string
	for _, t := range l.Tokens {
		texts = append(texts, t.String())
	}
	return strings.Join(texts, ",")
}

// ServesAPI says whether workers can ask this relay for jobs.
func (s *Settings) ServesAPI() bool { return s.APIAddr != "" && s.APIAddr != "off" }

// checkAPI refuses addresses that others than this machine can reach, unless there are tokens.
func (s *Settings) checkAPI() error {
	if err := s.APITokens.err; err != nil {
		return fmt.Errorf("POSTRIDER_API_TOKENS: %w", err)
	}
	if err := s.checkAPIURL(); err != nil || !s.ServesAPI() {
		return err
	}
	host, port, err := net.SplitHostPort(string(s.APIAddr))
	if err != nil {
		return fmt.Errorf("POSTRIDER_API_ADDR=%s: must be an address of this machine with a port, such as 127.0.0.1:8482", s.APIAddr)
	}
	if len(s.APITokens.Tokens) == 0 && !isLocal(host) {
		return fmt.Errorf("POSTRIDER_API_ADDR=%s: without POSTRIDER_API_TOKENS it must be an address that this machine alone can reach, such as 127.0.0.1:%s, [::1]:%s or localhost:%s, for whoever can call may do everything",
			s.APIAddr, port, port, port)
	}
	for name, other := range map[string]string{"POSTRIDER_HTTP_ADDR": string(s.HTTPAddr), "POSTRIDER_CALLBACK_ADDR": string(s.CallbackAddr)} {
		if other == string(s.APIAddr) && !strings.HasSuffix(other, ":0") {
			return fmt.Errorf("POSTRIDER_API_ADDR=%s: must be another address than %s", s.APIAddr, name)
		}
	}
	return nil
}

func (s *Settings) checkAPIURL() error {
	if s.APIUrl == "" {
		return nil
	}
	shown := destination.Redact(string(s.APIUrl))
	if !s.ServesAPI() {
		return fmt.Errorf("POSTRIDER_API_URL=%s: needs POSTRIDER_API_ADDR, the port that it leads to", shown)
	}
	u, err := url.Parse(string(s.APIUrl))
	if err != nil || !isBase(u) {
		return fmt.Errorf("POSTRIDER_API_URL=%s: must look like http://127.0.0.1:8482, without user, path or query", shown)
	}
	if len(s.APITokens.Tokens) == 0 && !isLocal(u.Hostname()) {
		return fmt.Errorf("POSTRIDER_API_URL=%s: must be an address of this machine, such as http://127.0.0.1:8482: without POSTRIDER_API_TOKENS, POSTRIDER_API_ADDR serves no other", shown)
	}
	return nil
}

// isBase says whether a URL names a server and nothing of it.
func isBase(u *url.URL) bool {
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return *u == bare && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.Trim(u.Path, "/") == ""
}

// isLocal says whether a name can only lead to this machine.
func isLocal(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
