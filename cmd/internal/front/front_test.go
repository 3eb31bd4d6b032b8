package front_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"ocspfleet/cmd/internal/front"
)

const (
	get       = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	slowBody  = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsl"
	slowHead  = "POST / HTTP/1.1\r\nHost: x\r\nX-Slo"
	bodysRest = "ow body"
)

// 4,200 slow POSTs once held honest clients up for 8 s: until the slow ones' timeouts.
// Here the server has no timeout, and whatever thrice as many connections as there is
// room for do, from one address or from many, who asks is answered.
func TestWhoKeepsTheServerWaitingHoldsNobodyUp(t *testing.T) {
	const room, attackers = 16, 48
	for what, attack := range map[string]struct {
		say  string
		then string // after the first answer
	}{
		"says nothing":             {"", ""},
		"slow header":              {slowHead, ""},
		"slow body":                {slowBody, ""},
		"chunks without an end":    {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nsl\r\n", ""},
		"idle after a request":     {get, "-"},
		"slow second header":       {get, slowHead},
		"slow second body":         {get, slowBody},
		"no PROXY header for ever": {"PROXY TCP4 19", ""},
	} {
		for from, address := range map[string]func(int) string{
			"one address":    func(int) string { return "192.0.2.1" },
			"many addresses": func(n int) string { return fmt.Sprintf("192.0.2.%d", n+1) },
			"one network":    func(n int) string { return fmt.Sprintf("2001:db8::%x", n+1) },
		} {
			t.Run(what+" from "+from, func(t *testing.T) {
				t.Parallel()
				h := open(t, room, 64)
				for n := range attackers {
					begin := v1(address(n)) + attack.say
					if strings.HasPrefix(attack.say, "PROXY") {
						begin = attack.say
						if n >= room-1 { // the proxy's own connections are not closed: leave room
							break
						}
					}
					c := h.dial(speaking, begin)
					if attack.then != "" {
						c.wants(address(n) + " ")
						c.say(strings.TrimPrefix(attack.then, "-"))
					}
				}
				for range 3 {
					honest := h.via("198.51.100.7", slowBody)
					honest.say(bodysRest)
					honest.wants("198.51.100.7 slow body")
				}
			})
		}
	}
}

// One half-open request more than a client may have costs it the oldest one; others,
// and its own idle connections, stay.
func TestHalfOpenRequestsOfOneClientAreBounded(t *testing.T) {
	h := open(t, 100, 3)
	other, rests := h.via("192.0.2.9", slowBody), h.via("192.0.2.1", get)
	rests.wants("192.0.2.1 ")
	h.await("x_connections", "idle", 1)
	h.await("x_connections", "half_open", 1)
	var all []*client
	for n := range 5 {
		c := h.via("192.0.2.1", get) // so that it is known whose it is before the next comes
		c.wants("192.0.2.1 ")
		c.say([]string{slowBody, slowHead}[n%2])
		all = append(all, c)
		h.await("x_connections", "half_open", float64(min(1+n+1, 4)))
		h.await("x_connections_cut_total", "client", float64(max(0, n-2)))
	}
	all[0].cut()
	all[1].cut()
	all[2].say(bodysRest)
	all[2].wants("192.0.2.1 slow body")
	other.say(bodysRest)
	other.wants("192.0.2.9 slow body")
	rests.say(get)
	rests.wants("192.0.2.1 ")
	h.await("x_connections_cut_total", "full", 0)
}

// A /64 network of IPv6 is one client, and an IPv4 address however it is written.
func TestOneSubscriberIsOneClient(t *testing.T) {
	for what, c := range map[string]struct {
		addresses []string
		cut       float64
	}{
		"one /64":         {[]string{"2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:3"}, 1},
		"several /64":     {[]string{"2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"}, 0},
		"mapped IPv4":     {[]string{"::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"}, 1},
		"neighbours":      {[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, 0},
		"loopback":        {[]string{"127.0.0.1", "::1", "127.9.9.9", "127.0.0.1", "127.0.0.1"}, 0},
		"a trusted proxy": {[]string{naming, naming, naming}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			h := open(t, 100, 2)
			for n, from := range c.addresses {
				h.via(from, slowHead)
				h.await("x_connections", "half_open", float64(n+1)-min(c.cut, float64(max(0, n-1))))
			}
			h.await("x_connections_cut_total", "client", c.cut)
		})
	}
}

// Loopback and the proxies are never closed to make room: who comes then waits, and is
// served when one of them has gone. A stop does not wait.
func TestLoopbackAndProxiesAreNeverCut(t *testing.T) {
	const room = 8
	for _, from := range []string{"127.0.0.1", naming} {
		h := open(t, room, 2)
		var all []*client
		for n := range room {
			all = append(all, h.dial(from, slowBody))
			h.await("x_connections", "half_open", float64(n+1))
		}
		waits := h.via("192.0.2.1", get)
		all[0].conn.Close()
		waits.wants("192.0.2.1 ")
		waits.conn.Close()
		for _, c := range all[1:] {
			c.say(bodysRest)
			c.wants(from + " slow body")
		}
		h.dial(from, "")
		h.await("x_connections", "", room)
		h.await("x_connections_cut_total", "", 0)
		h.dial(from, "") // is left waiting when the server ends
	}
}

// All at once, in every order: nothing is lost and nothing is counted twice.
func TestCountsComeBackToNothing(t *testing.T) {
	h := open(t, 24, 4)
	var crowd sync.WaitGroup
	for n := range 200 {
		crowd.Go(func() {
			from := []string{"127.0.0.1", naming, speaking, speaking}[n%4]
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
			conn, err := d.DialContext(t.Context(), "tcp", h.address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			say := []string{get, get + get, slowBody, slowHead, slowBody + bodysRest + get, "", "\x16\x03\x01"}[n%7]
			if from == speaking {
				say = v1(fmt.Sprintf("192.0.2.%d", n%5)) + say
			}
			if from == naming {
				say = strings.ReplaceAll(say, "Host: x\r\n", fmt.Sprintf("Host: x\r\nX-Real-IP: 192.0.2.%d\r\n", n%5))
			}
			_, _ = conn.Write([]byte(say)) // it may be cut already
			if n%3 == 0 && strings.HasSuffix(say, get) {
				_, _ = conn.Read(make([]byte, 1))
			}
		})
	}
	crowd.Wait()
	h.await("x_connections", "", 0)
	h.via("192.0.2.1", get).wants("192.0.2.1 ")
}

func TestNewProxyRefuses(t *testing.T) {
	for address, want := range map[string]string{
		"":                  `address "": want an IP address or a network such as 192.0.2.0/24`,
		"proxy.example":     `address "proxy.example": want an IP address or a network such as 192.0.2.0/24`,
		"fe80::1%eth0":      `address "fe80::1%eth0": want an IP address or a network such as 192.0.2.0/24`,
		"192.0.2.7/24":      `address "192.0.2.7/24": the network is 192.0.2.0/24`,
		"0.0.0.0/0":         `address "0.0.0.0/0": is everybody, who could then claim any address: name the proxies alone`,
		"::/0":              `address "::/0": is everybody, who could then claim any address: name the proxies alone`,
		"::ffff:0.0.0.0/96": `address "::ffff:0.0.0.0/96": write an IPv4 network as such`,
	} {
		if _, err := front.NewProxy(address, ""); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", address, err, want)
		}
	}
	for header, want := range map[string]string{
		"Forwarded": "header Forwarded (RFC 7239) is not read: have the proxy set X-Real-IP or X-Forwarded-For",
		"X Real":    `header "X Real": is no name of an HTTP header`,
	} {
		if _, err := front.NewProxy("192.0.2.7", header); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", header, err, want)
		}
	}
	if p, err := front.NewProxy("::ffff:192.0.2.7", ""); err != nil || p.Peers.String() != "192.0.2.7/32" {
		t.Errorf("%v, %v", p, err)
	}
}
