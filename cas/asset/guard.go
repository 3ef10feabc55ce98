package asset

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// guard decides which addresses may be connected to. It is asked for each
// connection, with the address that the host's name was resolved to, right
// before the connection is made: a name that resolves to something else the
// next time gains nothing.
type guard struct {
	allowed []netip.Prefix
	denied  []netip.Prefix
}

func newGuard(allowed []netip.Prefix) *guard {
	g := &guard{allowed: allowed}
	for _, special := range specialNetworks() {
		g.denied = append(g.denied, netip.MustParsePrefix(special))
	}
	return g
}

// specialNetworks lists what is not public by the registries of the IANA, and
// the one service for guests of a cloud that has a public address. Most of these
// lead to this host, to its neighbours, or to the metadata of its cloud.
func specialNetworks() []string {
	return []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"168.63.129.16/32", // Azure's host
		"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16",
		"fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	}
}

// control implements net.Dialer.ControlContext.
func (g *guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	endpoint, err := netip.ParseAddrPort(address)
	if err != nil {
		return fault(ErrDenied, "the address %s cannot be judged", quote(address))
	}
	return g.check(endpoint.Addr())
}

// check tells why an address may not be connected to. The message names no
// address: whoever asks must not learn what a name means inside this network.
func (g *guard) check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	for _, a := range []netip.Addr{a, embedded(a)} {
		if !a.IsValid() || contains(g.allowed, a) {
			continue
		}
		if contains(g.denied, a) {
			return fault(ErrDenied, "its host has an address in a private or special network; start hearth with --asset-allow-network to allow the network")
		}
	}
	return nil
}

// embedded returns the IPv4 address that a translating router would send to, if
// a is of that kind.
func embedded(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return netip.Addr{}
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ParseNetworks reads networks such as 10.0.0.0/8, or single addresses, for
// OriginOptions.AllowNetworks.
func ParseNetworks(words []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, word := range words {
		p, err := netip.ParsePrefix(word)
		if a, addrErr := netip.ParseAddr(word); err != nil && addrErr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither a network such as 10.0.0.0/8 nor an address", word)
		}
		networks = append(networks, p.Masked())
	}
	return networks, nil
}
