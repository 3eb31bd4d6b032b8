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
	proxy *Proxy // nil: the peer is no trusted proxy
	named sync.Once

	// Guarded by front.mu.
	state       state
	client      netip.Addr // whose it is; invalid: nobody's
	lent        bool       // to the client of a half-open request, by its proxy
	busy        int        // requests that came whole and are not answered
	multiplexed bool       // it speaks HTTP/2
	gone        bool       // it is not counted any more
	inAll       *list.Element
	inClient    *list.Element

	deadline sync.Mutex // guards late
	late     bool       // no more time is given
}

func (f *Front) newConn(raw net.Conn) *conn {
	peer := addrOf(raw.RemoteAddr())
	c := &conn{Conn: raw, front: f, proxy: f.proxyAt(peer)}
	switch {
	case c.proxy == nil:
		c.client = key(peer)
	case c.proxy.Header == "":
		// The specification's section 2: no guessing whether there is a header.
		c.Conn = proxyproto.NewConn(raw, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(headerTime))
	}
	return c
}

// RemoteAddr is the client's address. It waits for the PROXY header where one is to
// come; net/http asks for it first, in the connection's own goroutine.
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

// hurry ends the time for what is being read: the handler answers that it came too
// slowly, as at any deadline.
func (c *conn) hurry() {
	c.deadline.Lock()
	defer c.deadline.Unlock()
	c.late = true
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // it is closed already
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

// addrOf is a peer's address; none where it is no TCP peer.
func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// key is what a client's connections are counted by: an IPv4 address, or the /64
// network that one IPv6 subscriber has at least. Loopback's are not counted.
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
