package front_test

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// lines collects a log.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// v2 is a PROXY header of version 2 (proxy-protocol.txt section 2.2).
func v2(command, family byte, block string) string {
	head := append([]byte(signature), command, family)
	return string(binary.BigEndian.AppendUint16(head, uint16(len(block)))) + block
}

// from4 and from6 are the address blocks.
func from4(client string) string {
	a := netip.MustParseAddr(client).As4()
	return string(a[:]) + "\x7f\x00\x00\x01\x9c\x40\x00\x50"
}

func from6(client string) string {
	a := netip.MustParseAddr(client).As16()
	return string(a[:]) + strings.Repeat("\x00", 15) + "\x01\x9c\x40\x00\x50"
}

// proxy-protocol.txt, sections 2.1 and 2.2: what a proxy may write. Who it names is the
// client; where it names nobody, the proxy is.
func TestPROXYHeadersOfBothVersions(t *testing.T) {
	for what, c := range map[string]struct{ header, client string }{
		"v1 TCP4":               {"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "192.0.2.1"},
		"v1 TCP6":               {"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "2001:db8::1"},
		"v1 UNKNOWN":            {"PROXY UNKNOWN\r\n", speaking},
		"v1 UNKNOWN, the worst": {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", speaking},
		"v2 TCP4":               {v2(0x21, 0x11, from4("192.0.2.1")), "192.0.2.1"},
		"v2 TCP6":               {v2(0x21, 0x21, from6("2001:db8::1")), "2001:db8::1"},
		"v2 with TLVs":          {v2(0x21, 0x11, from4("192.0.2.1")+"\x04\x00\x03abc\xea\x00\x01x"), "192.0.2.1"},
		"v2 LOCAL":              {v2(0x20, 0x00, ""), speaking},
		"v2 LOCAL with a block": {v2(0x20, 0x11, from4("192.0.2.1")), speaking},
		"v2 LOCAL, other block": {v2(0x20, 0x11, "abc"), speaking},
	} {
		t.Run(what, func(t *testing.T) {
			h := open(t, 10, 3)
			client := h.dial(speaking, c.header+get)
			client.wants(c.client + " ")
			client.say(get) // once for all requests of the connection
			client.wants(c.client + " ")
			h.await("x_proxy_faults_total", "", 0)
		})
	}
}

// The receiver must not guess (section 2): what a configured peer sends must begin with
// a whole and right header, and what others send never does.
func TestPROXYHeadersThatAreNone(t *testing.T) {
	bad := map[string]string{
		"none":                  "",
		"no CR":                 "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n",
		"two spaces":            "PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
		"lower case":            "proxy TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
		"a third family":        "PROXY TCP5 192.0.2.1 192.0.2.2 56324 443\r\n",
		"the other family":      "PROXY TCP6 192.0.2.1 192.0.2.2 56324 443\r\n",
		"no address":            "PROXY TCP4 192.0.2.256 192.0.2.2 56324 443\r\n",
		"an octet with a zero":  "PROXY TCP4 192.0.02.1 192.0.2.2 56324 443\r\n",
		"a port too many":       "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
		"a port with a sign":    "PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n",
		"a field more":          "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 x\r\n",
		"too long":              "PROXY UNKNOWN " + strings.Repeat("x", 107) + "\r\n",
		"v2 version 1":          v2(0x11, 0x11, from4("192.0.2.1")),
		"v2 command 2":          v2(0x22, 0x11, from4("192.0.2.1")),
		"v2 family 4":           v2(0x21, 0x41, from4("192.0.2.1")),
		"v2 transport 3":        v2(0x21, 0x13, from4("192.0.2.1")),
		"v2 block too short":    v2(0x21, 0x11, from4("192.0.2.1")[:11]),
		"v2 IPv6 in IPv4's":     v2(0x21, 0x21, from4("192.0.2.1")),
		"v2 PROXY without addr": v2(0x21, 0x00, ""),
	}
	for what, header := range bad {
		t.Run(what, func(t *testing.T) {
			h := open(t, 10, 3)
			h.dial(speaking, header+get).cut()
			h.await("x_proxy_faults_total", "proxy_protocol", 1)
			if !strings.Contains(h.log.String(), "a trusted proxy sends no PROXY header, or a broken one") {
				t.Errorf("the log says nothing: %s", h.log)
			}
		})
	}
	t.Run("from others", func(t *testing.T) {
		h := open(t, 10, 3)
		for _, header := range []string{v1("192.0.2.1"), v2(0x21, 0x11, from4("192.0.2.1"))} {
			for _, peer := range []string{"127.0.0.1", naming} {
				if code, text := h.dial(peer, header+get).answered(); code != 400 {
					t.Errorf("%s, %q: %d %s", peer, header, code, text)
				}
			}
		}
		h.await("x_proxy_faults_total", "", 0)
	})
}

// A header counts from a configured peer alone, and of it what that peer wrote itself.
func TestHeaderNamesTheClientOfATrustedProxyAlone(t *testing.T) {
	post := func(values ...string) string {
		fields := ""
		for _, v := range values {
			fields += "X-Real-IP: " + v + "\r\n"
		}
		return strings.Replace(slowBody, "Host: x\r\n", "Host: x\r\n"+fields, 1)
	}
	for what, c := range map[string]struct {
		peer   string
		say    string
		named  bool
		faults float64
	}{
		"address":           {naming, post("192.0.2.1"), true, 0},
		"address and port":  {naming, post("192.0.2.1:1234"), true, 0},
		"IPv6":              {naming, post("2001:db8::1"), true, 0},
		"IPv6 in brackets":  {naming, post("[2001:db8::1]"), true, 0},
		"IPv6 and port":     {naming, post("[2001:db8::1]:1234"), true, 0},
		"the last counts":   {naming, post("127.0.0.1, 192.0.2.1"), true, 0},
		"the last line":     {naming, post("127.0.0.1", "192.0.2.1"), true, 0},
		"forged before it":  {naming, post("192.0.2.1, 127.0.0.1"), false, 0},
		"loopback":          {naming, post("127.0.0.1"), false, 0},
		"another proxy":     {naming, post(speaking), false, 0},
		"no header":         {naming, slowBody, false, 0},
		"no address":        {naming, post("unknown"), false, 3},
		"empty":             {naming, post(""), false, 3},
		"not from loopback": {"127.0.0.1", post("192.0.2.1"), false, 0},
	} {
		t.Run(what, func(t *testing.T) {
			h := open(t, 100, 2)
			var all []*client
			for n := range 3 {
				all = append(all, h.dial(c.peer, c.say))
				if !c.named || n < 2 { // the third is answered at once
					h.await("x_connections", "half_open", float64(n+1))
				}
				h.await("x_proxy_faults_total", "", min(c.faults, float64(n+1)))
			}
			if !c.named {
				for _, client := range all {
					client.say(bodysRest)
					client.wants(c.peer + " slow body")
				}
				h.await("x_connections_cut_total", "", 0)
				return
			}
			// One is told that it was too slow, in HTTP: a proxy's connection is not cut.
			told := make(chan int, len(all))
			for i, client := range all {
				go func() {
					_, _ = client.in.Peek(1)
					told <- i
				}()
			}
			late := <-told
			if code, text := all[late].answered(); code != http.StatusRequestTimeout {
				t.Errorf("%d %s", code, text)
			}
			for i, client := range all {
				if i != late {
					client.say(bodysRest)
					<-told
					client.wants(c.peer + " slow body")
				}
			}
			h.await("x_connections_cut_total", "client", 1)
		})
	}
}
