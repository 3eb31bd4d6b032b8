package front_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"ocspfleet/cmd/internal/front"
)

// As before the feed: below TLS, over HTTP/1 and HTTP/2. Who never ends its handshake
// holds nobody up, and who has several requests at once is at work until the last.
func TestBelowTLS(t *testing.T) {
	const room = 8
	borrowed := httptest.NewUnstartedServer(nil)
	borrowed.StartTLS()
	certificates := borrowed.TLS.Certificates
	borrowed.Close()
	for protocol, protos := range map[int][]string{1: {"http/1.1"}, 2: {"h2", "http/1.1"}} {
		t.Run(fmt.Sprintf("HTTP/%d", protocol), func(t *testing.T) {
			h := &house{t: t, registry: prometheus.NewRegistry()}
			raw, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			h.address = raw.Addr().String()
			leave, entered := make(chan struct{}), make(chan struct{}, room)
			server := &http.Server{
				TLSConfig: &tls.Config{Certificates: certificates, NextProtos: protos}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/wait" {
						entered <- struct{}{}
						<-leave
					}
					fmt.Fprintf(w, "%d", r.ProtoMajor)
				}),
			}
			f := front.New(front.Config{Max: room, HalfOpen: 4, Proxies: proxies(t), Metrics: front.NewMetrics(h.registry, "x"), Log: slog.New(slog.DiscardHandler)})
			attached := tls.NewListener(f.Attach(server, raw), server.TLSConfig)
			done := make(chan error, 1)
			go func() { done <- server.Serve(attached) }()
			t.Cleanup(func() {
				_ = server.Close()
				<-done
				h.await("x_connections", "", 0)
			})
			transport := &http.Transport{
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: protocol == 2,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(speaking)}}
					conn, err := d.DialContext(ctx, "tcp", h.address)
					if err == nil {
						_, err = io.WriteString(conn, v1("192.0.2.9"))
					}
					return conn, err
				},
			}
			defer transport.CloseIdleConnections()
			ask := func(path string) {
				response, err := (&http.Client{Transport: transport, Timeout: patience}).Get("https://" + h.address + path)
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				if got, err := io.ReadAll(response.Body); err != nil || string(got) != fmt.Sprint(protocol) {
					t.Errorf("%q, %v", got, err)
				}
			}
			// Until all are admitted, one of them may close what waits longer: an ask.
			crowded := func(says ...string) {
				counted := func() float64 { return h.value("x_connections", "half_open") + h.value("x_connections_cut_total", "") }
				want := counted() + 3*room
				for n := range 3 * room {
					h.via(fmt.Sprintf("192.0.2.%d", n%3+1), says[n%len(says)])
				}
				if !h.until(func() bool { return counted() == want }) {
					t.Fatalf("%v connections are counted, want %v", counted(), want)
				}
			}
			crowded("", "\x16\x03\x01\x02")
			ask("/")
			h.await("x_connections", "idle", 1)
			var crowd sync.WaitGroup
			for range 3 {
				crowd.Go(func() { ask("/wait") })
				<-entered
			}
			connections := map[int]float64{1: 3, 2: 1}[protocol]
			h.await("x_connections", "working", connections)
			crowded("")
			leave <- struct{}{}
			leave <- struct{}{}
			if protocol == 2 { // one is left
				h.await("x_connections", "working", 1)
			}
			leave <- struct{}{}
			crowd.Wait()
			h.await("x_connections", "working", 0)
			ask("/")
		})
	}
}
