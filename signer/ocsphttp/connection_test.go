package ocsphttp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/signertest"
	"ocspfleet/signer/wire"
)

// On one connection: errors, Expect: 100-continue and pipelining;
// the CertID answered is always the CertID asked.
func TestOneConnection(t *testing.T) {
	r, site := startSite(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(site, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	read := func(what string) (*http.Response, []byte) {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return resp, body
	}
	head := func(n int, more string) string {
		return fmt.Sprintf("POST /ocsp HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n", requestType, n, more)
	}
	// An error, then a good request.
	_, _ = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"+head(3, "")+"xyz")
	if resp, _ := read("PUT"); resp.StatusCode != 405 {
		t.Errorf("PUT: %d", resp.StatusCode)
	}
	if _, body := read("garbage"); !bytes.Equal(body, wire.ErrorResponse(wire.MalformedRequest)) {
		t.Errorf("garbage: %x", body)
	}
	// Expect: the body is sent only when it is asked for.
	der := r.Request(signertest.GoodSerial)
	_, _ = io.WriteString(conn, head(len(der), "Expect: 100-continue\r\n"))
	if line, _ := in.ReadString('\n'); !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q", line)
	}
	_, _ = in.ReadString('\n')
	_, _ = conn.Write(der)
	if _, body := read("Expect"); !bytes.Contains(body, signertest.CertID(t, der)) {
		t.Error("Expect: another CertID")
	}
	// 200 requests at once, GET and POST mixed, each for its own serial.
	var all bytes.Buffer
	var ids [][]byte
	for n := range 200 {
		der := r.Request(big.NewInt(int64(0x1000 + n)))
		ids = append(ids, signertest.CertID(t, der))
		if n%2 == 0 {
			fmt.Fprintf(&all, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", pathOf(der))
			continue
		}
		all.WriteString(head(len(der), ""))
		all.Write(der)
	}
	go func() { _, _ = conn.Write(all.Bytes()) }()
	for n, id := range ids {
		if resp, body := read("pipelined"); resp.StatusCode != 200 || !bytes.Contains(body, id) {
			t.Fatalf("pipelined request %d: status %d, another CertID", n, resp.StatusCode)
		}
	}
}

// A client that shuts its sending half after the request still gets the answer;
// HTTP/1.0 too.
func TestHalfClosedHTTP10(t *testing.T) {
	r, site := startSite(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(site, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	release := make(chan struct{})
	r.Keys.Set(func() { r.Keys.Block = release })
	_, _ = io.WriteString(conn, "GET "+pathOf(r.Request(signertest.GoodSerial))+" HTTP/1.0\r\n\r\n")
	_ = conn.(*net.TCPConn).CloseWrite()
	for r.Keys.Signs.Load() < 2 { // the self-test and this one
		time.Sleep(time.Millisecond)
	}
	close(release)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || len(body) < 100 {
		t.Errorf("%d octets, %v", len(body), err)
	}
}

// A body that breaks off or does not come costs its own connection only.
func TestBrokenBodies(t *testing.T) {
	r, site := startSite(t, func(s *http.Server) { s.ReadTimeout = 300 * time.Millisecond })
	for name, c := range map[string]struct {
		closing bool
		want    int
	}{"breaks off": {true, 400}, "does not come": {false, 408}} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(site, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: "+requestType+"\r\nContent-Length: 80\r\n\r\n0L")
		if c.closing {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != c.want {
			t.Errorf("%s: %v %v", name, resp, err)
		}
		_ = conn.Close()
	}
	if _, body := post(t, site, r.Request(signertest.GoodSerial)); len(body) < 100 {
		t.Error("the next client suffers")
	}
}

func TestHeadersAreBounded(t *testing.T) {
	_, site := startSite(t)
	req := newRequest(t, http.MethodGet, site+"/", nil)
	req.Header.Set("X-Large", strings.Repeat("x", 20<<10))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // the server need not read all before it closes
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// The log of net/http names no client.
func TestServerLogHidesClients(t *testing.T) {
	var out bytes.Buffer
	server := NewServer(http.NotFoundHandler(), slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for _, text := range []string{
		"http: panic serving 192.0.2.7:4711: boom", "http: TLS handshake error from [2001:db8::7]:4711: EOF",
		"http: response: write tcp 10.0.0.1:80->192.0.2.7:4711: broken pipe",
		"http: Accept error: accept tcp 0.0.0.0:80: accept4: too many open files; retrying in 5ms",
	} {
		server.ErrorLog.Print(text)
	}
	if got := out.String(); strings.Contains(got, "192.0.2.7") || strings.Contains(got, "2001:db8") ||
		!strings.Contains(got, "boom") || !strings.Contains(got, "too many open files") {
		t.Errorf("logged\n%s", got)
	}
}

// No answer path writes a serial to the log.
func TestLogsHoldNoSerial(t *testing.T) {
	r := newRig(t)
	serial, _ := new(big.Int).SetString("deadbeefcafef00d", 16)
	site := httptest.NewServer(Handler(r.Responder, nil))
	defer site.Close()
	get(t, site.URL+pathOf(r.Request(serial)))
	r.Keys.Set(func() { r.Keys.Panic = true })
	post(t, site.URL, signertest.Join(t, []byte("n"), r.Request(serial)))
	if got := strings.ToLower(r.Logs.String()); strings.Contains(got, "deadbeef") || strings.Contains(got, "127.0.0.1") {
		t.Errorf("logged\n%s", got)
	}
}
