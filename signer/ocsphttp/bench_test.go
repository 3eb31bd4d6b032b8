package ocsphttp

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"

	"ocspfleet/integration/testkit/signertest"
)

// nullWriter is a ResponseWriter of no cost.
type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *nullWriter) WriteHeader(int)             {}

func BenchmarkHandlerGET(b *testing.B) {
	r := newRig(b)
	handler := Handler(r.Responder, nil)
	req := httptest.NewRequestWithContext(b.Context(), http.MethodGet, pathOf(r.Request(signertest.GoodSerial)), nil)
	b.ReportAllocs()
	for b.Loop() {
		w := nullWriter{make(http.Header, 8)}
		handler.ServeHTTP(&w, req)
	}
}

// The yardstick of a cached GET over TCP is net/http with chi and one Write.
func BenchmarkTCP(b *testing.B) {
	r := newRig(b)
	body := r.Answer(b.Context(), r.Request(signertest.GoodSerial)).Body
	bare := chi.NewRouter()
	bare.Get("/*", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = typeValue
		_, _ = w.Write(body)
	})
	for name, handler := range map[string]http.Handler{"bare": bare, "responder": Handler(r.Responder, nil)} {
		b.Run(name, func(b *testing.B) {
			server := httptest.NewServer(handler)
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			request := []byte("GET " + pathOf(r.Request(signertest.GoodSerial)) + " HTTP/1.1\r\nHost: x\r\n\r\n")
			size := 0
			buf := make([]byte, 1<<16)
			for b.Loop() {
				_, _ = conn.Write(request)
				if size == 0 { // learn the length of an answer with all its headers
					if size, err = conn.Read(buf); err != nil {
						b.Fatal(err)
					}
					continue
				}
				if _, err := io.ReadFull(conn, buf[:size]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
