package config

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// API are the settings of what workers call.
type API struct {
	APIAddr Text `split_words:"true" desc:"Where workers ask for jobs of pull: subscriptions, such as 127.0.0.1:8482: an address of this machine alone, since there are no tokens yet; empty or off: nowhere."`
}

// ServesAPI says whether workers can ask this relay for jobs.
func (s *Settings) ServesAPI() bool { return s.APIAddr != "" && s.APIAddr != "off" }

// checkAPI refuses addresses that others than this machine can reach: whoever can call may take jobs.
func (s *Settings) checkAPI() error {
	if !s.ServesAPI() {
		return nil
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
