package webhook

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// guard decides which addresses may be connected to. It is asked about each address that is about to be dialled, after
// names were resolved, so that neither a spelling nor a change of DNS gets around it.
//
// An IPv6 address that stands for an IPv4 address is judged as both, and either can refuse it. For each, the most specific
// network of guard.allow and guard.deny that holds it decides, guard.deny where both are as specific. If there is none, the
// defaults decide: the networks in refused and, with guard.public_only, all that is not public.
type guard struct {
	rules      []rule // most specific first, at equal length deny first
	publicOnly bool
}

type rule struct {
	prefix netip.Prefix
	deny   bool
}

// newGuard checks the options. Its errors name the list and the entry that is wrong.
func newGuard(o GuardOptions) (*guard, error) {
	g := &guard{publicOnly: o.PublicOnly}
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

// Guard returns what guards sinks that are no webhooks in the same way: a net.Dialer's ControlContext.
func Guard(o GuardOptions) (func(ctx context.Context, network, address string, conn syscall.RawConn) error, error) {
	g, err := newGuard(o)
	if err != nil {
		return nil, err
	}
	return g.control, nil
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

// control is a net.Dialer's ControlContext.
func (g *guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("refused by the guard: %q is no address: %w", address, err)
	}
	return g.check(a.Addr())
}

// check returns nil if a may be connected to, else an error that names the address and the rule.
func (g *guard) check(a netip.Addr) error {
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
func (g *guard) judge(a netip.Addr) string {
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
