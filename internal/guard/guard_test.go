package guard

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func newTestGuard(t testing.TB, o Options) *Guard {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Each address is judged by default, and with public_only: a word of the reason, or empty if it may be connected to.
var judged = []struct{ addr, byDefault, publicOnly string }{
	// Fine for a sidecar, and not public.
	{"127.0.0.1", "", "loopback"},
	{"127.255.255.254", "", "loopback"},
	{"::1", "", "loopback"},
	{"::ffff:127.0.0.1", "", "loopback"},
	{"10.0.0.1", "", "private"},
	{"172.16.0.1", "", "private"},
	{"172.31.255.255", "", "private"},
	{"192.168.1.1", "", "private"},
	{"fc00::1", "", "private"},
	{"fd12:3456::1", "", "private"},
	{"fec0::1", "", "site-local"},
	{"100.64.0.1", "", "shared"},
	{"100.127.255.255", "", "shared"},
	{"192.0.0.8", "", "protocol"},
	{"192.88.99.1", "", "protocol"},
	{"192.0.2.1", "", "documentation"},
	{"198.51.100.1", "", "documentation"},
	{"203.0.113.1", "", "documentation"},
	{"2001:db8::1", "", "documentation"},
	{"3fff:fff::1", "", "documentation"},
	{"198.18.0.1", "", "benchmarking"},
	{"198.19.255.255", "", "benchmarking"},
	{"2001:2::1", "", "protocol"},
	{"2001:1ff::1", "", "protocol"},
	{"240.0.0.1", "", "reserved"},
	{"255.255.255.254", "", "reserved"},
	{"100::1", "", "public part"},
	{"4000::1", "", "public part"},
	{"5f00::1", "", "public part"},
	// Public.
	{"8.8.8.8", "", ""},
	{"::ffff:8.8.8.8", "", ""},
	{"64:ff9b::8.8.8.8", "", ""},
	{"9.255.255.255", "", ""},
	{"11.0.0.0", "", ""},
	{"100.63.255.255", "", ""},
	{"100.128.0.0", "", ""},
	{"126.255.255.255", "", ""},
	{"128.0.0.1", "", ""},
	{"168.63.129.15", "", ""},
	{"169.253.255.255", "", ""},
	{"169.255.0.0", "", ""},
	{"172.15.255.255", "", ""},
	{"172.32.0.0", "", ""},
	{"223.255.255.255", "", ""},
	{"2001:200::1", "", ""},
	{"2606:4700::1111", "", ""},
	{"2a00:1450::1", "", ""},
	// Never by default.
	{"0.0.0.0", "unspecified", "unspecified"},
	{"0.1.2.3", "unspecified", "unspecified"},
	{"::", "unspecified", "unspecified"},
	{"::ffff:0.0.0.0", "unspecified", "unspecified"},
	{"255.255.255.255", "broadcast", "broadcast"},
	{"224.0.0.1", "multicast", "multicast"},
	{"239.255.255.255", "multicast", "multicast"},
	{"ff02::1", "multicast", "multicast"},
	{"ff0e::1", "multicast", "multicast"},
	{"ff02::1%eth0", "multicast", "multicast"},
	{"169.254.0.1", "link-local", "link-local"},
	{"fe80::1", "link-local", "link-local"},
	{"fe80::1%eth0", "link-local", "link-local"},
	{"febf:ffff::1", "link-local", "link-local"},
	{"fe80::a9fe:a9fe", "link-local", "link-local"},
	{"169.254.169.254", "metadata", "metadata"},
	{"169.254.170.2", "metadata", "metadata"},
	{"169.254.170.23", "metadata", "metadata"},
	{"169.254.42.42", "metadata", "metadata"},
	{"168.63.129.16", "metadata", "metadata"},
	{"100.100.100.200", "metadata", "metadata"},
	{"192.0.0.192", "metadata", "metadata"},
	{"fd00:ec2::254", "metadata", "metadata"},
	{"fd00:ec2::254%2", "metadata", "metadata"},
	{"fd00:ec2::23", "metadata", "metadata"},
	{"fd20:ce::254", "metadata", "metadata"},
	{"fd00:c1::a9fe:a9fe", "metadata", "metadata"},
	{"fd00:a9fe:a9fe::1", "metadata", "metadata"},
	{"fd00:42::42", "metadata", "metadata"},
	{"fd00:100::100:200", "metadata", "metadata"},
	// The same in other spellings.
	{"::ffff:169.254.169.254", "metadata", "metadata"},
	{"::ffff:a9fe:a9fe", "metadata", "metadata"},
	{"::ffff:a9fe:a9fe%eth0", "metadata", "metadata"},
	{"0:0:0:0:0:ffff:a9fe:a9fe", "metadata", "metadata"},
	{"::169.254.169.254", "metadata", "public part"},
	{"::a9fe:a9fe", "metadata", "public part"},
	{"::ffff:0:169.254.169.254", "metadata", "public part"},
	{"64:ff9b::169.254.169.254", "metadata", "metadata"},
	{"64:ff9b::a9fe:a9fe", "metadata", "metadata"},
	{"64:ff9b::a83f:8110", "metadata", "metadata"},
	{"64:ff9b::10.0.0.1", "", "private"},
	{"64:ff9b::127.0.0.1", "", "loopback"},
	{"64:ff9b:1::a9fe:a9fe", "metadata", "public part"},       // prefix of 96 bits
	{"64:ff9b:1:a9fe:a9:fe00::", "metadata", "public part"},   // 48
	{"64:ff9b:1:a9:fe:a9fe::", "metadata", "public part"},     // 56
	{"64:ff9b:1:0:a9:fea9:fe00:0", "metadata", "public part"}, // 64
	{"64:ff9b:1::", "unspecified", "public part"},
	{"64:ff9b:1::8.8.8.8", "", "public part"},
	{"2002:a9fe:a9fe::1", "metadata", "6to4"},
	{"2002:e000:1::", "multicast", "6to4"},
	{"2002:808:808::1", "", "6to4"},
	{"2001:0:808:808::5601:5601", "metadata", "protocol"}, // Teredo: the client's address is inverted
	{"2001:0:a9fe:a9fe::f7f7:f7f7", "metadata", "protocol"},
	{"2001:0:808:808::f7f7:f7f7", "", "protocol"},
	{"2a00:1450::5efe:169.254.169.254", "metadata", "metadata"}, // ISATAP
	{"2a00:1450::200:5efe:a9fe:a9fe", "metadata", "metadata"},
	{"2a00:1450::5efe:10.0.0.1", "", "private"},
	{"2a00:1450::5efe:8.8.8.8", "", ""},
}

func TestGuard(t *testing.T) {
	lenient, strict := newTestGuard(t, Options{}), newTestGuard(t, Options{PublicOnly: true})
	for _, c := range judged {
		for _, with := range []struct {
			g    *Guard
			name string
			want string
		}{{lenient, "by default", c.byDefault}, {strict, "with public_only", c.publicOnly}} {
			err := with.g.Check(netip.MustParseAddr(c.addr))
			if with.want == "" && err != nil || with.want != "" && (err == nil || !strings.Contains(err.Error(), with.want)) {
				t.Errorf("%s %s: %v, want %q", c.addr, with.name, err, with.want)
			}
			if addr, _, _ := strings.Cut(c.addr, "%"); err != nil && !strings.Contains(err.Error(), netip.MustParseAddr(addr).Unmap().String()) {
				t.Errorf("%s %s: the reason does not name the address: %v", c.addr, with.name, err)
			}
		}
	}
}

func TestGuardLists(t *testing.T) {
	for name, c := range map[string]struct {
		o    Options
		want map[string]string
	}{
		"deny": {Options{Deny: []string{"10.0.0.0/8", "2a00::/16"}}, map[string]string{
			"10.1.2.3": "in 10.0.0.0/8 of guard.deny", "::ffff:10.1.2.3": "guard.deny", "64:ff9b::a01:203": "stands for 10.1.2.3, which is in",
			"2002:a01:203::": "guard.deny", "2a00:1::": "2a00::/16", "11.0.0.1": "", "2a01::": "", "169.254.1.1": "link-local",
		}},
		"allow over the defaults": {Options{Allow: []string{"169.254.0.0/16", "fe80::/10"}}, map[string]string{
			"169.254.169.254": "", "::ffff:169.254.169.254": "", "64:ff9b::a9fe:a9fe": "", "fe80::1%eth0": "", "fd00:ec2::254": "metadata",
		}},
		"allow over public_only": {Options{PublicOnly: true, Allow: []string{"10.1.0.0/16"}}, map[string]string{
			"10.1.2.3": "", "10.2.0.1": "private", "64:ff9b::10.1.2.3": "", "8.8.8.8": "",
			"2002:a01:203::": "6to4", // the outer address is not allowed
		}},
		"an allowed translator allows not what is behind": {Options{Allow: []string{"64:ff9b::/96"}}, map[string]string{
			"64:ff9b::a9fe:a9fe": "metadata", "64:ff9b::808:808": "",
		}},
		"the most specific decides": {
			Options{Deny: []string{"10.0.0.0/8", "10.1.2.0/24"}, Allow: []string{"10.1.0.0/16", "10.1.2.3/32"}}, map[string]string{
				"10.9.9.9": "10.0.0.0/8", "10.1.1.1": "", "10.1.2.1": "10.1.2.0/24", "10.1.2.3": "",
			}},
		"deny where both are as specific": {Options{Deny: []string{"10.0.0.0/8"}, Allow: []string{"10.0.0.0/8"}}, map[string]string{
			"10.0.0.1": "guard.deny",
		}},
		"nothing but": {Options{Deny: []string{"0.0.0.0/0", "::/0"}, Allow: []string{"203.0.113.7/32"}}, map[string]string{
			"203.0.113.7": "", "203.0.113.8": "guard.deny", "2606:4700::1111": "guard.deny", "127.0.0.1": "guard.deny", "::1": "guard.deny",
		}},
		"everything":             {Options{Allow: []string{"0.0.0.0/0", "::/0"}}, map[string]string{"169.254.169.254": "", "ff02::1": "", "0.0.0.0": ""}},
		"IPv4 in IPv6's clothes": {Options{Deny: []string{"::ffff:10.0.0.0/104"}}, map[string]string{"10.1.1.1": "guard.deny", "11.1.1.1": ""}},
	} {
		g := newTestGuard(t, c.o)
		for addr, want := range c.want {
			err := g.Check(netip.MustParseAddr(addr))
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %s: %v, want %q", name, addr, err, want)
			}
		}
	}
}

func TestGuardOptions(t *testing.T) {
	for entry, want := range map[string]string{
		"":                     "CIDR notation",
		"example.com":          "CIDR notation",
		"10.0.0.0/33":          "CIDR notation",
		"10.0.0.0/-1":          "CIDR notation",
		"010.0.0.0/8":          "CIDR notation",
		"10.0/8":               "CIDR notation",
		"fe80::%eth0/64":       "CIDR notation",
		"fe80::1%eth0":         "CIDR notation",
		"10.1.2.3":             "10.1.2.3/32",
		"fd00::1":              "fd00::1/128",
		"10.1.2.3/8":           "10.0.0.0/8 is the network",
		"::ffff:10.0.0.0/8":    "IPv4 addresses as IPv4",
		"::ffff:10.1.0.0/104":  "10.0.0.0/8 is the network",
		"169.254.169.254 / 32": "CIDR notation",
	} {
		for name, o := range map[string]Options{"guard.allow": {Allow: []string{"10.0.0.0/8", entry}}, "guard.deny": {Deny: []string{entry}}} {
			_, err := New(o)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), name+` has the entry "`+entry+`"`) {
				t.Errorf("%s: [%q]: %v, want %q", name, entry, err, want)
			}
		}
	}
}

// However an IPv4 address is dressed up, it is refused if it is refused as such.
func TestGuardSeesThroughEverySpelling(t *testing.T) {
	strict := newTestGuard(t, Options{PublicOnly: true})
	lenient := newTestGuard(t, Options{})
	rapid.Check(t, func(t *rapid.T) {
		var v4 [4]byte
		for i := range v4 {
			v4[i] = rapid.SampledFrom([]byte{0, 1, 8, 10, 127, 169, 254, 192, 168, 172, 16, 224, 255}).Draw(t, "byte")
		}
		g := rapid.SampledFrom([]*Guard{lenient, strict}).Draw(t, "guard")
		a := netip.AddrFrom4(v4)
		if g.Check(a) == nil {
			return
		}
		for name, spelled := range spellings(v4) {
			if err := g.Check(spelled); err == nil {
				t.Errorf("%s is refused, and %s (%s) is not", a, spelled, name)
			}
		}
	})
}

func spellings(v4 [4]byte) map[string]netip.Addr {
	last := func(prefix string) netip.Addr {
		b := netip.MustParseAddr(prefix).As16()
		copy(b[12:], v4[:])
		return netip.AddrFrom16(b)
	}
	at := func(prefix string, i int) netip.Addr {
		b := netip.MustParseAddr(prefix).As16()
		copy(b[i:], v4[:])
		return netip.AddrFrom16(b)
	}
	inverted := netip.MustParseAddr("2001:0:808:808::").As16()
	for i, c := range v4 {
		inverted[12+i] = ^c
	}
	all := map[string]netip.Addr{
		"IPv4-mapped": last("::ffff:0:0"), "translated": last("::ffff:0:0:0"), "NAT64": last("64:ff9b::"), "NAT64, local": last("64:ff9b:1::"),
		"6to4": at("2002::", 2), "Teredo server": at("2001::f7f7:f7f7", 4), "Teredo client": netip.AddrFrom16(inverted),
		"ISATAP": last("2a00:1450::5efe:0:0"),
	}
	if compatible := last("::"); !compatible.IsLoopback() { // ::1 is itself
		all["IPv4-compatible"] = compatible
	}
	return all
}
