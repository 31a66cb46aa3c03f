package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/postrider/postrider/internal/destination"
)

// API are the settings of what workers call.
type API struct {
	APIAddr Text `split_words:"true" desc:"Where workers ask for jobs of pull: subscriptions, such as 127.0.0.1:8482: an address of this machine alone, since there are no tokens yet; empty or off: nowhere."`
	APIUrl  Text `split_words:"true" show:"url" desc:"Where other relays reach this one's POSTRIDER_API_ADDR, such as http://127.0.0.1:8482, so that workers may ask any relay for jobs of any subscription."`
}

// ServesAPI says whether workers can ask this relay for jobs.
func (s *Settings) ServesAPI() bool { return s.APIAddr != "" && s.APIAddr != "off" }

// checkAPI refuses addresses that others than this machine can reach: whoever can call may take jobs.
func (s *Settings) checkAPI() error {
	if err := s.checkAPIURL(); err != nil || !s.ServesAPI() {
		return err
	}
	host, port, err := net.SplitHostPort(string(s.APIAddr))
	if err != nil {
		return fmt.Errorf("POSTRIDER_API_ADDR=%s: must be an address of this machine with a port, such as 127.0.0.1:8482", s.APIAddr)
	}
	addr, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !addr.IsLoopback()) {
		return fmt.Errorf("POSTRIDER_API_ADDR=%s: must be an address that this machine alone can reach, such as 127.0.0.1:%s, [::1]:%s or localhost:%s, for whoever can call takes jobs",
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
	if err != nil || *u != (url.URL{Scheme: "http", Host: u.Host, Path: u.Path}) || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("POSTRIDER_API_URL=%s: must look like http://127.0.0.1:8482, without user, path or query", shown)
	}
	if addr, err := netip.ParseAddr(u.Hostname()); u.Hostname() != "localhost" && (err != nil || !addr.IsLoopback()) {
		return fmt.Errorf("POSTRIDER_API_URL=%s: must be an address of this machine, such as http://127.0.0.1:8482: POSTRIDER_API_ADDR serves no other", shown)
	}
	return nil
}
