package front

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Proxy is a trusted peer, or a network of them.
type Proxy struct {
	// Peers is its addresses.
	Peers netip.Prefix
	// Header names the client in each of the proxy's requests: its last element counts, which
	// the proxy itself wrote. Empty: each of its connections begins with a PROXY header,
	// version 1 or 2.
	Header string
}

// NewProxy reads a proxy's address, such as 192.0.2.7 or 2001:db8::/64, and the name of
// its header, empty for the PROXY protocol.
func NewProxy(address, header string) (Proxy, error) {
	prefix, err := netip.ParsePrefix(address)
	if err != nil {
		single, err := netip.ParseAddr(address)
		if err != nil || single.Zone() != "" {
			return Proxy{}, fmt.Errorf("address %q: want an IP address or a network such as 192.0.2.0/24", address)
		}
		prefix = netip.PrefixFrom(single.Unmap(), single.Unmap().BitLen())
	}
	switch {
	case prefix != prefix.Masked():
		return Proxy{}, fmt.Errorf("address %q: the network is %s", address, prefix.Masked())
	case prefix.Bits() == 0:
		return Proxy{}, fmt.Errorf("address %q: is everybody, who could then claim any address: name the proxies alone", address)
	case prefix.Addr().Is4In6():
		return Proxy{}, fmt.Errorf("address %q: write an IPv4 network as such", address)
	case header == "":
	case strings.EqualFold(header, "Forwarded"):
		return Proxy{}, errors.New("header Forwarded (RFC 7239) is not read: have the proxy set X-Real-IP or X-Forwarded-For")
	case !httpguts.ValidHeaderFieldName(header):
		return Proxy{}, fmt.Errorf("header %q: is no name of an HTTP header", header)
	}
	return Proxy{prefix, header}, nil
}

// proxyAt finds the proxy at an address.
func (f *Front) proxyAt(peer netip.Addr) *Proxy {
	for i := range f.cfg.Proxies {
		if f.cfg.Proxies[i].Peers.Contains(peer) {
			return &f.cfg.Proxies[i]
		}
	}
	return nil
}

// namedBy returns the client that a trusted proxy names in a request; invalid if it names none,
// or one that is not counted.
func (f *Front) namedBy(c *conn, h http.Header) netip.Addr {
	if c.proxy == nil || c.proxy.Header == "" {
		return netip.Addr{}
	}
	values := h.Values(c.proxy.Header)
	if len(values) == 0 { // the proxy's own request, such as a check
		return netip.Addr{}
	}
	client, ok := lastAddr(values[len(values)-1])
	switch {
	case !ok:
		f.unnamed(c.proxy, reasonHeader)
		return netip.Addr{}
	case f.proxyAt(client) != nil:
		return netip.Addr{}
	}
	return key(client)
}

// lastAddr reads the last element of a header, an address or ADDRESS:PORT. The ones
// before it came from the client.
func lastAddr(value string) (netip.Addr, bool) {
	last := strings.TrimSpace(value[strings.LastIndexByte(value, ',')+1:])
	addr, err := netip.ParseAddr(strings.Trim(last, "[]"))
	if err != nil {
		with, err := netip.ParseAddrPort(last)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = with.Addr()
	}
	return addr.Unmap(), true
}

// unnamed records that a proxy did not name its client as configured.
func (f *Front) unnamed(p *Proxy, reason string) {
	f.cfg.Metrics.unnamed(reason)
	if p.Header == "" {
		f.warn("a trusted proxy sends no PROXY header, or a broken one: nothing of it is served; switch it on there, or proxy_protocol off here",
			slog.String("address", p.Peers.String()))
		return
	}
	f.warn("a trusted proxy names no address in its header", slog.String("address", p.Peers.String()), slog.String("header", p.Header))
}
