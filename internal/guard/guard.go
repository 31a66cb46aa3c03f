package guard

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// Guard decides which addresses may be connected to. It is asked about each address that is about to be dialled, after
// names were resolved, so that neither a spelling nor a change of DNS gets around it.
//
// An IPv6 address that stands for an IPv4 address is judged as both, and either can refuse it. For each, the most specific
// network of guard.allow and guard.deny that holds it decides, guard.deny where both are as specific. If there is none, the
// defaults decide: the networks in refused and, with guard.public_only, all that is not public.
type Guard struct {
	rules      []rule // most specific first, at equal length deny first
	publicOnly bool
}

type rule struct {
	prefix netip.Prefix
	deny   bool
}

// Options say which addresses may be connected to.
type Options struct {
	// Allow and Deny are networks in CIDR notation. Of those that hold an address the most specific decides, Deny where
	// two are as specific. Both win over the defaults and PublicOnly.
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
	// PublicOnly refuses every address that is not public: for endpoints that customers register. It excludes a Proxy.
	PublicOnly bool `json:"public_only,omitempty"`
}

// New checks the options. Its errors name the list and the entry that is wrong.
func New(o Options) (*Guard, error) {
	g := &Guard{publicOnly: o.PublicOnly}
	for _, list := range []struct {
		name    string
		entries []string
		deny    bool
	}{{"guard.deny", o.Deny, true}, {"guard.allow", o.Allow, false}} {
		for _, entry := range list.entries {
			prefix, err := parseNetwork(entry)
			if err != nil {
				return nil, fmt.Errorf("%s has the entry %q: %w", list.name, entry, err)
			}
			g.rules = append(g.rules, rule{prefix, list.deny})
		}
	}
	slices.SortStableFunc(g.rules, func(a, b rule) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
	return g, nil
}

func parseNetwork(entry string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(entry)
	if err != nil {
		if a, err := netip.ParseAddr(entry); err == nil && a.Zone() == "" {
			return p, fmt.Errorf("must be a network: for this one address %s/%d", a, a.BitLen())
		}
		return p, fmt.Errorf("must be a network in CIDR notation such as 10.0.0.0/8 or fd00::/8")
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return p, fmt.Errorf("must name IPv4 addresses as IPv4, such as 10.0.0.0/8")
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("has bits set beyond its length: %s is the network", p.Masked())
	}
	return p, nil
}

// Control is a net.Dialer's ControlContext.
func (g *Guard) Control(_ context.Context, _, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("refused by the guard: %q is no address: %w", address, err)
	}
	return g.Check(a.Addr())
}

// Check returns nil if a may be connected to, else an error that names the address and the rule.
func (g *Guard) Check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if why := g.judge(a); why != "" {
		return fmt.Errorf("refused by the guard: %s %s", a, why)
	}
	for _, v4 := range embedded(a) {
		if why := g.judge(v4); why != "" {
			return fmt.Errorf("refused by the guard: %s stands for %s, which %s", a, v4, why)
		}
	}
	return nil
}

// judge says why an address is refused, empty if it is not.
func (g *Guard) judge(a netip.Addr) string {
	for _, r := range g.rules {
		if !r.prefix.Contains(a) {
			continue
		}
		if r.deny {
			return fmt.Sprintf("is in %s of guard.deny", r.prefix)
		}
		return ""
	}
	if n, ok := find(refused, a); ok {
		return fmt.Sprintf("is %s (%s): only guard.allow can permit it", n.what, n.prefix)
	}
	if !g.publicOnly {
		return ""
	}
	if n, ok := find(notPublic, a); ok {
		return fmt.Sprintf("is %s (%s), and guard.public_only is set", n.what, n.prefix)
	}
	if _, ok := find(public6, a); a.Is6() && !ok {
		return "is not in the public part of IPv6, and guard.public_only is set"
	}
	return ""
}

// CheckHost judges the host of a URL that a proxy is going to resolve. Only an address can be judged; a host that programs
// other than ours take for one (such as 0xa9fea9fe, or 2852039166) is refused, since it is no name either.
func (g *Guard) CheckHost(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		return g.Check(a)
	}
	last := strings.TrimSuffix(host, ".")
	last = strings.ToLower(last[strings.LastIndexByte(last, '.')+1:])
	digits := "0123456789"
	if rest, ok := strings.CutPrefix(last, "0x"); ok {
		last, digits = rest, "0123456789abcdef"
	}
	if strings.Trim(last, digits) == "" {
		return fmt.Errorf("refused by the guard: the proxy may take %s for an address: write it in the usual form", host)
	}
	return nil
}
