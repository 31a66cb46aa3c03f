package guard

import (
	"net/netip"
	"slices"
)

// network is a range of addresses that has a meaning of its own.
type network struct {
	prefix netip.Prefix
	what   string // completes "… is"
}

// refused holds what is never a receiver of webhooks, in no network: refused unless guard.allow says otherwise. Loopback
// and private addresses are not among them, because a sidecar's receivers are often next to it.
var refused = slices.Concat(
	networks("a cloud's metadata or control service",
		"169.254.169.254/32", // most clouds
		"169.254.170.2/32",   // AWS ECS
		"169.254.170.23/32",  // AWS EKS Pod Identity
		"fd00:ec2::/32",      // AWS: instance metadata, EKS Pod Identity, DNS, time
		"fd20:ce::254/128",   // Google Cloud
		"168.63.129.16/32",   // Azure's wire server, an address that is public elsewhere
		"100.100.100.200/32", // Alibaba Cloud
		"fd00:100::100:200/128",
		"192.0.0.192/32", // Oracle Cloud
		"fd00:c1::a9fe:a9fe/128",
		"fd00:a9fe:a9fe::1/128", // Akamai
		"169.254.42.42/32",      // Scaleway
		"fd00:42::42/128",
	),
	networks("a link-local address", "169.254.0.0/16", "fe80::/10"),
	networks("the unspecified address or in its network", "0.0.0.0/8", "::/128"),
	networks("a multicast address", "224.0.0.0/4", "ff00::/8"),
	networks("the broadcast address", "255.255.255.255/32"),
)

// notPublic holds what the special-purpose address registries of IANA (IPv4 and IPv6, RFC 6890) do not call globally
// reachable. The few anycast addresses inside of them that are reachable serve no webhooks and are left in.
var notPublic = slices.Concat(
	networks("a loopback address", "127.0.0.0/8", "::1/128"),
	networks("a private address", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
	networks("a carrier's shared address", "100.64.0.0/10"),
	networks("an address of a protocol", "192.0.0.0/24", "192.88.99.0/24", "2001::/23"),
	networks("a documentation address", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
	networks("a benchmarking address", "198.18.0.0/15"),
	networks("a reserved address", "240.0.0.0/4"),
	networks("a 6to4 address", "2002::/16"),
	networks("a site-local address", "fec0::/10"),
)

// Of IPv6, only these are handed out for the public: unicast addresses, and IPv4 behind a translator.
var public6 = networks("public", "2000::/3", "64:ff9b::/96")

func networks(what string, prefixes ...string) []network {
	list := make([]network, len(prefixes))
	for i, p := range prefixes {
		list[i] = network{netip.MustParsePrefix(p), what}
	}
	return list
}

// find returns the first network that holds a.
func find(list []network, a netip.Addr) (network, bool) {
	i := slices.IndexFunc(list, func(n network) bool { return n.prefix.Contains(a) })
	if i < 0 {
		return network{}, false
	}
	return list[i], true
}

// Where IPv6 addresses hold IPv4 addresses.
var (
	compatible = netip.MustParsePrefix("::/96")                     // RFC 4291, section 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")           // RFC 2765
	nat64      = netip.MustParsePrefix("64:ff9b::/96")              // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")            // RFC 8215: a network chooses the length of its prefix
	sixToFour  = netip.MustParsePrefix("2002::/16")                 // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")                 // RFC 4380
	thisHost   = netip.MustParsePrefix("0.0.0.0/8")                 // what is left where nothing is embedded
	isatap     = [2][4]byte{{0, 0, 0x5e, 0xfe}, {2, 0, 0x5e, 0xfe}} // RFC 5214, section 6.1
)

// embedded returns the IPv4 addresses for which an IPv6 address stands by one of the standard schemes.
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() || a.IsUnspecified() || a.IsLoopback() {
		return nil
	}
	b := a.As16()
	last := netip.AddrFrom4([4]byte(b[12:]))
	switch {
	case compatible.Contains(a), translated.Contains(a), nat64.Contains(a):
		return []netip.Addr{last}
	case nat64Local.Contains(a):
		return translatedLocally(b)
	case sixToFour.Contains(a):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:]))}
	case teredo.Contains(a):
		client := [4]byte{^b[12], ^b[13], ^b[14], ^b[15]}
		return []netip.Addr{netip.AddrFrom4([4]byte(b[4:])), netip.AddrFrom4(client)}
	case slices.Contains(isatap[:], [4]byte(b[8:])):
		return []netip.Addr{last}
	}
	return nil
}

// translatedLocally returns what the address can mean under prefixes of 48, 56, 64 and 96 bits (RFC 6052, section 2.2,
// where byte 8 is left out). Padding that looks like 0.0.0.0/8 is no address.
func translatedLocally(b [16]byte) []netip.Addr {
	all := []netip.Addr{
		netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}),
		netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}),
		netip.AddrFrom4([4]byte(b[9:])),
		netip.AddrFrom4([4]byte(b[12:])),
	}
	found := slices.DeleteFunc(slices.Clone(all), thisHost.Contains)
	if len(found) == 0 {
		return all[:1]
	}
	return found
}
