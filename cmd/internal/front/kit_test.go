package front_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ocspfleet/cmd/internal/front"
)

// patience ends what would hang for ever. The servers of these tests have no timeouts
// at all: what is answered is answered because there is room.
const patience = 20 * time.Second

// Proxies of the tests: who connects from here names its clients. Clients cannot be
// told apart otherwise, since loopback's are not counted.
const (
	speaking = "127.0.0.2" // PROXY protocol
	naming   = "127.0.0.3" // X-Real-IP
)

func proxies(t *testing.T) []front.Proxy {
	t.Helper()
	first, err := front.NewProxy(speaking, "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := front.NewProxy(naming, "X-Real-IP")
	if err != nil {
		t.Fatal(err)
	}
	return []front.Proxy{first, second}
}

// house is a server behind a front.
type house struct {
	t        *testing.T
	address  string
	registry *prometheus.Registry
	log      *lines
}

// open serves what echoes the client's address and the body.
func open(t *testing.T, limit, halfOpen int) *house {
	t.Helper()
	h := &house{t: t, registry: prometheus.NewRegistry(), log: &lines{}}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = raw.Addr().String()
	server := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil {
			w.Header().Set("Connection", "close")
			http.Error(w, "too slow", http.StatusRequestTimeout)
			return
		}
		at := netip.MustParseAddrPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s %s", at.Addr(), got)
	})}
	f := front.New(front.Config{
		Max: limit, HalfOpen: halfOpen, Proxies: proxies(t), Metrics: front.NewMetrics(h.registry, "x"), Log: slog.New(slog.NewTextHandler(h.log, nil)),
	})
	attached := f.Attach(server, raw)
	done := make(chan error, 1)
	go func() { done <- server.Serve(attached) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
		h.await("x_connections", "", 0)
	})
	return h
}

// dial connects from an address of this machine and says something.
func (h *house) dial(from, say string) *client {
	h.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	conn, err := d.DialContext(h.t.Context(), "tcp", h.address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	c := &client{h.t, conn, bufio.NewReader(conn)}
	c.say(say)
	return c
}

// v1 is a PROXY header for a client.
func v1(client string) string {
	family, to := "TCP4", "127.0.0.1"
	if netip.MustParseAddr(client).Is6() {
		family, to = "TCP6", "::1"
	}
	return fmt.Sprintf("PROXY %s %s %s 40000 80\r\n", family, client, to)
}

// via connects as a client of the proxy that speaks the PROXY protocol.
func (h *house) via(from, say string) *client { return h.dial(speaking, v1(from)+say) }

type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (c *client) say(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// answered reads one answer.
func (c *client) answered() (code int, text string) {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	return response.StatusCode, string(got)
}

func (c *client) wants(text string) {
	c.t.Helper()
	if code, got := c.answered(); code != http.StatusOK || got != text {
		c.t.Errorf("%d %q, want 200 %q", code, got, text)
	}
}

// cut waits for the end of the connection.
func (c *client) cut() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(c.in); err != nil && isTimeout(err) || len(got) > 0 {
		c.t.Errorf("want the end of the connection, got %q, %v", got, err)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// value sums a metric, of one label value where that is given.
func (h *house) value(name, label string) float64 {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// await waits until a metric is so.
func (h *house) await(name, label string, want float64) {
	h.t.Helper()
	if !h.until(func() bool { return h.value(name, label) == want }) {
		h.t.Fatalf("%s{%s} is %v, want %v", name, label, h.value(name, label), want)
	}
}

// until says whether it came to be so.
func (h *house) until(is func() bool) bool {
	h.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
