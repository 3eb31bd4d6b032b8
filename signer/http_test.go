package signer

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
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

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ocsp"

	"ocspfleet/db"
	"ocspfleet/signer/wire"
)

func do(tb testing.TB, req *http.Request) (*http.Response, []byte) {
	tb.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp, body
}

func newRequest(tb testing.TB, method, target string, body []byte) *http.Request {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, target, bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", requestType)
	}
	return req
}

func get(tb testing.TB, target string) (*http.Response, []byte) {
	tb.Helper()
	return do(tb, newRequest(tb, http.MethodGet, target, nil))
}

func post(tb testing.TB, target string, body []byte) (*http.Response, []byte) {
	tb.Helper()
	return do(tb, newRequest(tb, http.MethodPost, target, body))
}

func pathOf(der []byte) string { return "/" + base64.URLEncoding.EncodeToString(der) }

// startSite serves a rig with the limits of the public listener.
func startSite(tb testing.TB, edit ...func(*http.Server)) (*rig, string) {
	tb.Helper()
	r := newRig(tb)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := NewServer(r.Handler(HTTPConfig{}), slog.New(slog.DiscardHandler))
	for _, f := range edit {
		f(server)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	tb.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return r, "http://" + listener.Addr().String()
}

// RFC 9919 section 7.2: the headers of an answer that caches may keep; POST
// carries them too, and HEAD is GET without the body.
func TestRFC9919_7_2_CacheHeaders(t *testing.T) {
	r, site := startSite(t)
	der := r.request(goodSerial)
	headers := []string{"Content-Type", "Content-Length", "Last-Modified", "Expires", "Cache-Control", "Etag"}
	pick := func(h http.Header) map[string]string {
		out := make(map[string]string)
		for _, name := range headers {
			out[name] = strings.Join(h.Values(name), "|")
		}
		return out
	}
	resp, body := get(t, site+pathOf(der))
	want := map[string]string{
		"Content-Type": "application/ocsp-response", "Content-Length": fmt.Sprint(len(body)),
		"Last-Modified": "Sun, 22 Nov 2026 11:55:00 GMT", "Expires": "Wed, 25 Nov 2026 11:55:00 GMT",
		"Cache-Control": "max-age=3600, public, no-transform, must-revalidate", "Etag": resp.Header.Get("Etag"),
	}
	if diff := cmp.Diff(want, pick(resp.Header)); diff != "" {
		t.Errorf("GET (-want +got):\n%s", diff)
	}
	// RFC 9919 section 7.2 recommends the hex of the SHA-256 of the answer.
	if etag := want["Etag"]; etag != fmt.Sprintf(`"%x"`, sha256.Sum256(body)) {
		t.Errorf("ETag %s", etag)
	}
	if date := resp.Header.Get("Date"); !strings.HasSuffix(date, " GMT") {
		t.Errorf("Date %q", date)
	}
	posted, _ := post(t, site, der)
	if diff := cmp.Diff(want, pick(posted.Header)); diff != "" {
		t.Errorf("POST (-want +got):\n%s", diff)
	}
	head, empty := do(t, newRequest(t, http.MethodHead, site+pathOf(der), nil))
	if diff := cmp.Diff(want, pick(head.Header)); diff != "" || len(empty) != 0 {
		t.Errorf("HEAD with %d octets (-want +got):\n%s", len(empty), diff)
	}
	for match, code := range map[string]int{
		want["Etag"]: 304, "W/" + want["Etag"]: 304, "*": 304, `"other", ` + want["Etag"]: 304, `"other"`: 200, "": 200,
	} {
		req := newRequest(t, http.MethodGet, site+pathOf(der), nil)
		req.Header.Set("If-None-Match", match)
		resp, body := do(t, req)
		if resp.StatusCode != code || (code == 304) != (len(body) == 0) || resp.Header.Get("Etag") != want["Etag"] {
			t.Errorf("If-None-Match %s: status %d with %d octets", match, resp.StatusCode, len(body))
		}
	}
}

// RFC 9919 section 7.2: no-store and no-cache never stand on an authoritative
// answer. What others must not keep: unsigned errors (no-store), and answers with a
// nonce, which are authoritative (private, and stale at once).
func TestRFC9919_7_2_NoStore(t *testing.T) {
	r, site := startSite(t)
	stranger := newCA(t, 2, "root-two", newKey(t))
	for name, c := range map[string]struct {
		der  []byte
		want string
	}{
		"nonce":        {join(t, []byte("nonce"), r.request(goodSerial)), "max-age=0, private, no-transform, must-revalidate"},
		"malformed":    {[]byte("x"), "no-store"},
		"unauthorized": {requestFor(t, stranger, crypto.SHA1, goodSerial), "no-store"},
	} {
		resp, _ := post(t, site, c.der)
		h := resp.Header
		if resp.StatusCode != 200 || h.Get("Cache-Control") != c.want || h.Get("Etag")+h.Get("Expires")+h.Get("Last-Modified") != "" ||
			h.Get("Content-Type") != responseType {
			t.Errorf("%s: status %d, %v", name, resp.StatusCode, h)
		}
	}
	resp, _ := get(t, site+pathOf(r.request(absentSerial)))
	if got := resp.Header.Get("Cache-Control"); got != "max-age=60, public, no-transform, must-revalidate" {
		t.Errorf("unknown: %s", got)
	}
}

// OCSP errors travel with HTTP 200; HTTP 4xx is for what is not OCSP; nothing is
// a 5xx, and the connection serves the next request where that is safe.
func TestBadHTTP(t *testing.T) {
	r, site := startSite(t)
	der := r.request(goodSerial)
	typed := func(kind string) func(*http.Request) {
		return func(q *http.Request) { q.Header.Set("Content-Type", kind) }
	}
	plain := func(*http.Request) {}
	for name, c := range map[string]struct {
		method, path string
		body         []byte
		edit         func(*http.Request)
		want         int
	}{
		"PUT":                 {"PUT", "/", der, plain, 405},
		"DELETE":              {"DELETE", "/a", nil, plain, 405},
		"OPTIONS":             {"OPTIONS", "/", nil, plain, 405},
		"invented method":     {"OCSP", "/", nil, plain, 405},
		"wrong type":          {"POST", "/", der, typed("application/json"), 415},
		"wrong, parameters":   {"POST", "/", der, typed("text/html; charset=utf-8"), 415},
		"response type":       {"POST", "/", der, typed(responseType), 415},
		"type in capitals":    {"POST", "/", der, typed("Application/OCSP-Request"), 200},
		"type with parameter": {"POST", "/", der, typed("application/ocsp-request; charset=binary"), 200},
		"any path":            {"POST", "/a//b/%2F", der, plain, 200},
		"empty body":          {"POST", "/", nil, plain, 200},
		"garbage":             {"POST", "/", []byte("garbage"), plain, 200},
		"full size":           {"POST", "/", make([]byte, wire.MaxRequestLen), plain, 200},
		"oversize":            {"POST", "/", make([]byte, wire.MaxRequestLen+1), plain, 413},
		"oversize, chunked": {"POST", "/", nil, func(q *http.Request) {
			q.Body, q.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, 1<<20))), -1
		}, 413},
		"chunked":       {"POST", "/", nil, func(q *http.Request) { q.Body, q.ContentLength = io.NopCloser(bytes.NewReader(der)), -1 }, 200},
		"long GET":      {"GET", "/" + strings.Repeat("M", maxGETLen), nil, plain, 414},
		"garbage GET":   {"GET", "/favicon.ico", nil, plain, 200},
		"root":          {"GET", "/", nil, plain, 200},
		"GET and query": {"GET", pathOf(der) + "?x=y", nil, plain, 200},
	} {
		req := newRequest(t, c.method, site+c.path, c.body)
		c.edit(req)
		resp, _ := do(t, req)
		if resp.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, c.want)
		}
		if c.want >= 400 && resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: may be cached", name)
		}
		if c.want == 405 && resp.Header.Get("Allow") != "GET, HEAD, POST" {
			t.Errorf("%s: Allow %q", name, resp.Header.Get("Allow"))
		}
		if resp, body := post(t, site, der); resp.StatusCode != 200 || len(body) < 100 {
			t.Errorf("after %s: status %d, %d octets", name, resp.StatusCode, len(body))
		}
	}
	resp, body := get(t, site+"/")
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || !strings.Contains(string(body), "OCSP responder") {
		t.Errorf("the root page: %v %s", resp.Header, body)
	}
}

// A POST whose client set no Content-Type, as MongoDB's driver, or left its library's
// own, as curl, wget, urllib and java.net.http do: such a client took the 415 for a
// responder that is away, and went on with a revoked certificate.
func TestAPOSTWithoutTypeOrWithAGenericOneIsAnswered(t *testing.T) {
	r, site := startSite(t)
	r.source.change(r.time(), r.ca.id, serialOf(goodSerial), r.revokedRow(r.time(), db.ReasonKeyCompromise))
	der := r.request(goodSerial)
	for name, values := range map[string][]string{
		"none":                   nil,
		"empty":                  {""},
		"blank":                  {"  "},
		"curl, wget, urllib":     {"application/x-www-form-urlencoded"},
		"the same and a charset": {"application/x-www-form-urlencoded; charset=UTF-8"},
		"octets":                 {"application/octet-stream"},
		"octets in capitals":     {"Application/Octet-Stream"},
		"none in particular":     {"*/*"},
		"no media type":          {"ocsp"},
		"no type at all":         {";;"},
		"broken parameter":       {"application/ocsp-request; charset"},
	} {
		req := newRequest(t, http.MethodPost, site, der)
		req.Header["Content-Type"] = values
		if values == nil {
			req.Header.Del("Content-Type")
		}
		resp, body := do(t, req)
		got, err := ocsp.ParseResponse(body, nil)
		if err != nil || got.Status != ocsp.Revoked {
			t.Errorf("%s: status %d, %v: %x", name, resp.StatusCode, err, body)
		}
	}
}

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
	der := r.request(goodSerial)
	_, _ = io.WriteString(conn, head(len(der), "Expect: 100-continue\r\n"))
	if line, _ := in.ReadString('\n'); !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q", line)
	}
	_, _ = in.ReadString('\n')
	_, _ = conn.Write(der)
	if _, body := read("Expect"); !bytes.Contains(body, certIDOf(t, der)) {
		t.Error("Expect: another CertID")
	}
	// 200 requests at once, GET and POST mixed, each for its own serial.
	var all bytes.Buffer
	var ids [][]byte
	for n := range 200 {
		der := r.request(big.NewInt(int64(0x1000 + n)))
		ids = append(ids, certIDOf(t, der))
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
	r.keys.set(func() { r.keys.block = release })
	_, _ = io.WriteString(conn, "GET "+pathOf(r.request(goodSerial))+" HTTP/1.0\r\n\r\n")
	_ = conn.(*net.TCPConn).CloseWrite()
	for r.keys.signs.Load() < 2 { // the self-test and this one
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
	if _, body := post(t, site, r.request(goodSerial)); len(body) < 100 {
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
	site := httptest.NewServer(r.Handler(HTTPConfig{}))
	defer site.Close()
	get(t, site.URL+pathOf(r.request(serial)))
	r.keys.set(func() { r.keys.panic = true })
	post(t, site.URL, join(t, []byte("n"), r.request(serial)))
	if got := strings.ToLower(r.logs.String()); strings.Contains(got, "deadbeef") || strings.Contains(got, "127.0.0.1") {
		t.Errorf("logged\n%s", got)
	}
}
