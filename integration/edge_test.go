package integration

import (
	"bufio"
	"bytes"
	"crypto"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"
)

// metric sums what an admin listener says under a name, labels included.
func metric(t *testing.T, site devfleet.Site, name string) float64 {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site.AdminURL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, body, err := do(r)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(body)
	if line == nil {
		t.Fatalf("there is no metric %s", name)
	}
	value, err := strconv.ParseFloat(string(line[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// proxied connects as the proxy that ocspd believes, for a client.
func proxied(t *testing.T, site devfleet.Site, client, first string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 20 * time.Second}
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(site.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "PROXY TCP4 "+client+" 192.0.2.254 40000 80\r\n"+first); err != nil {
		t.Fatal(err)
	}
	return conn
}

// 4,200 slow POSTs, more than max_connections, once held honest clients up for 8 s, all
// from one address or from many. Meanwhile they are answered, each with its own.
func TestThousandsOfSlowPostsHoldNobodyUp(t *testing.T) {
	f := shared(t)
	site, issuer := f.Sites[0], f.Issuers[1]
	const slow = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: 100\r\n\r\n0"
	for from, address := range map[string]func(int) string{
		"one address":    func(int) string { return "198.51.100.1" },
		"many addresses": func(n int) string { return fmt.Sprintf("198.18.%d.%d", n/250, n%250+1) },
	} {
		t.Run(from, func(t *testing.T) {
			began := time.Now()
			const attackers = 4200
			for n := range attackers {
				proxied(t, site, address(n), slow)
			}
			opened := time.Since(began)
			var longest time.Duration
			for n := range 20 {
				der, _, _ := request(t, f, issuer, issuer.Serials.Good[n], crypto.SHA256)
				asked := time.Now()
				conn := proxied(t, site, fmt.Sprintf("192.0.2.%d", n+1),
					fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: %d\r\n\r\n%s", len(der), der))
				_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
				response, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatalf("client %d: %v", n, err)
				}
				got, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK || !bytes.Contains(got, certIDOf(t, der)) {
					t.Fatalf("client %d: status %d, %d octets, %v", n, response.StatusCode, len(got), err)
				}
				longest = max(longest, time.Since(asked))
			}
			// The bounds, whatever the timeouts have cut by now: honest ones are idle.
			held := metric(t, site, `ocspd_connections{state="half_open"}`)
			t.Logf("%d opened in %v, %v are half-open, longest answer %v; closed: client %v, full %v", attackers, opened, held, longest,
				metric(t, site, `ocspd_connections_cut_total{reason="client"}`), metric(t, site, `ocspd_connections_cut_total{reason="full"}`))
			if bound := map[string]float64{"one address": 64, "many addresses": 4096}[from]; held > bound {
				t.Errorf("%v half-open connections, want at most %v", held, bound)
			}
		})
	}
	if metric(t, site, `ocspd_connections_cut_total{reason="client"}`) == 0 {
		t.Error("nobody was cut: the attack was none")
	}
}

// DNS rebinding: a browser's page of another name reaches the admin, and gets nothing.
func TestAdminOfADaemonChecksHost(t *testing.T) {
	f := shared(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.Sites[0].AdminURL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example:9080"
	if response, body, err := do(r); err != nil || response.StatusCode != http.StatusMisdirectedRequest || bytes.Contains(body, []byte("ocspd_")) {
		t.Errorf("%v, %v: %s", response, err, body)
	}
}
