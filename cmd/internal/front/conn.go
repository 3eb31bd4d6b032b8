package front

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// headerTime is how long a proxy may take for its PROXY header.
const headerTime = 5 * time.Second

// conn is a connection that a front counts.
type conn struct {
	net.Conn
	front *Front
	proxy *Proxy // nil: the peer is not a trusted proxy
	named sync.Once

	// Guarded by front.mu.
	state       state
	client      netip.Addr // the client it counts for; invalid: not counted
	lent        bool       // counts for the client of a half-open request that its proxy sent
	busy        int        // requests that arrived whole and are not answered
	multiplexed bool       // it speaks HTTP/2
	gone        bool       // no longer counted
	inAll       *list.Element
	inClient    *list.Element

	deadline sync.Mutex // guards late
	late     bool       // no more time is granted
}

func (f *Front) newConn(raw net.Conn) *conn {
	peer := addrOf(raw.RemoteAddr())
	c := &conn{Conn: raw, front: f, proxy: f.proxyAt(peer)}
	switch {
	case c.proxy == nil:
		c.client = key(peer)
	case c.proxy.Header == "":
		// Section 2 of the specification: do not guess whether there is a header.
		c.Conn = proxyproto.NewConn(raw, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(headerTime))
	}
	return c
}

// RemoteAddr is the client's address. It waits for the PROXY header if one is expected;
// net/http calls it first, in the connection's own goroutine.
func (c *conn) RemoteAddr() net.Addr {
	addr := c.Conn.RemoteAddr()
	if spoken, ok := c.Conn.(*proxyproto.Conn); ok {
		c.named.Do(func() {
			if spoken.ProxyHeader() == nil {
				c.front.unnamed(c.proxy, reasonPROXY)
			} else if client := addrOf(addr); c.front.proxyAt(client) == nil {
				c.front.name(c, key(client))
			}
		})
	}
	return addr
}

// Read implements net.Conn.
func (c *conn) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	if n > 0 {
		c.front.heard(c)
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.front.mu.Lock()
	c.front.gone(c)
	c.front.mu.Unlock()
	return c.Conn.Close()
}

// hurry ends the time for the request being read: the handler answers that it came too slowly,
// as after any deadline.
func (c *conn) hurry() {
	c.deadline.Lock()
	defer c.deadline.Unlock()
	c.late = true
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // if it fails, it is closed already
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.deadline.Lock()
	defer c.deadline.Unlock()
	if c.late {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// addrOf is a peer's address; the zero Addr if it is not a TCP peer.
func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// key is the address under which a client's connections are counted: an IPv4 address, or the
// /64 network, the least that one IPv6 subscriber has. Loopback is not counted.
func key(a netip.Addr) netip.Addr {
	switch {
	case !a.IsValid() || a.IsLoopback():
		return netip.Addr{}
	case a.Is4():
		return a
	}
	network, err := a.WithZone("").Prefix(64)
	if err != nil { // an IPv6 address has 64 bits
		return netip.Addr{}
	}
	return network.Addr()
}
