package front

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// DefaultHalfOpen is the default of Config.HalfOpen: a request arrives whole in one round trip,
// so that even thousands of clients behind one NAT address rarely have a dozen in progress at
// once.
const DefaultHalfOpen = 64

// Config is the bounds and the trusted proxies of a Front.
type Config struct {
	// Max bounds the connections at once. When all of them are working, or belong to loopback
	// and trusted proxies, more wait in the kernel's queue.
	Max int
	// HalfOpen bounds the half-open connections of one client: of one IPv4 address or
	// one IPv6 /64 network.
	HalfOpen int
	// Proxies are the peers that name their clients; the first that matches counts.
	Proxies []Proxy
	// Metrics counts; nil: none.
	Metrics *Metrics
	// Log receives, at most once a minute, that the front is full, and that a proxy does not
	// behave as configured.
	Log *slog.Logger
}

// Front bounds the connections of one listener.
type Front struct {
	cfg Config

	mu      sync.Mutex // guards all below, and the fields of conn marked so
	room    sync.Cond  // on mu: there may be room again, or the front is closed
	closed  bool
	open    int                       // connections held
	waiting list.List                 // of *conn: half-open and idle ones, longest waiting first
	clients map[netip.Addr]*list.List // of *conn: half-open ones of a client, the same order
	said    map[string]time.Time      // when a warning was logged last
}

// New makes a front for one listener.
func New(cfg Config) *Front {
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil, "")
	}
	f := &Front{cfg: cfg, clients: map[netip.Addr]*list.List{}, said: map[string]time.Time{}}
	f.room.L = &f.mu
	return f
}

// Attach puts the front between a server and the TCP listener that it will serve, below TLS if
// any.
func (f *Front) Attach(s *http.Server, l net.Listener) net.Listener {
	s.Handler = f.handler(s.Handler)
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, connOf(c))
	}
	s.ConnState = func(c net.Conn, to http.ConnState) {
		if to == http.StateIdle {
			f.rest(connOf(c))
		}
	}
	return &listener{l, f}
}

type connKey struct{}

// connOf finds our connection below TLS.
func connOf(c net.Conn) *conn {
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	return c.(*conn)
}

type listener struct {
	net.Listener
	front *Front
}

// Accept returns the next connection that there is room for.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := l.front.newConn(raw)
	if !l.front.admit(c) {
		_ = raw.Close() // not passed on yet
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close ends Accept, also where it waits for room.
func (l *listener) Close() error {
	l.front.mu.Lock()
	l.front.closed = true
	l.front.room.Broadcast()
	l.front.mu.Unlock()
	return l.Listener.Close()
}

// handler records when a request has arrived whole, and when its answer is written.
func (f *Front) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(connKey{}).(*conn)
		client := f.namedBy(c, r.Header)
		begun := false
		begin := func() {
			if !begun {
				begun = true
				f.begin(c)
			}
		}
		defer func() { // a handler may panic
			if begun {
				f.end(c, r.ProtoMajor)
			}
		}()
		if r.ContentLength == 0 { // with HTTP/2 there is still a Body
			begin()
			next.ServeHTTP(w, r)
			return
		}
		f.lend(c, client)
		slow := r.WithContext(r.Context()) // a copy: net/http recognises its own body by type
		slow.Body = &body{r.Body, begin}
		next.ServeHTTP(w, slow)
	})
}

// body calls ended at its end.
type body struct {
	io.ReadCloser
	ended func()
}

// Read implements io.Reader.
func (b *body) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if errors.Is(err, io.EOF) {
		b.ended()
	}
	return n, err
}

// warn logs a problem for the operator, at most once a minute.
func (f *Front) warn(text string, attrs ...slog.Attr) {
	f.mu.Lock()
	now := time.Now()
	quiet := now.Sub(f.said[text]) < time.Minute
	if !quiet {
		f.said[text] = now
	}
	f.mu.Unlock()
	if !quiet {
		f.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, text, attrs...)
	}
}
