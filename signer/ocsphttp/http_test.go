package ocsphttp

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
	"ocspfleet/signer/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/ocsp"
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
	server := NewServer(Handler(r.Responder, nil), slog.New(slog.DiscardHandler))
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
	der := r.Request(signertest.GoodSerial)
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
	stranger := signertest.NewCA(t, 2, "root-two", signertest.NewKey(t))
	for name, c := range map[string]struct {
		der  []byte
		want string
	}{
		"nonce":        {signertest.Join(t, []byte("nonce"), r.Request(signertest.GoodSerial)), "max-age=0, private, no-transform, must-revalidate"},
		"malformed":    {[]byte("x"), "no-store"},
		"unauthorized": {signertest.Request(t, stranger, crypto.SHA1, signertest.GoodSerial), "no-store"},
	} {
		resp, _ := post(t, site, c.der)
		h := resp.Header
		if resp.StatusCode != 200 || h.Get("Cache-Control") != c.want || h.Get("Etag")+h.Get("Expires")+h.Get("Last-Modified") != "" ||
			h.Get("Content-Type") != responseType {
			t.Errorf("%s: status %d, %v", name, resp.StatusCode, h)
		}
	}
	resp, _ := get(t, site+pathOf(r.Request(signertest.AbsentSerial)))
	if got := resp.Header.Get("Cache-Control"); got != "max-age=60, public, no-transform, must-revalidate" {
		t.Errorf("unknown: %s", got)
	}
}

// OCSP errors travel with HTTP 200; HTTP 4xx is for what is not OCSP; nothing is
// a 5xx, and the connection serves the next request where that is safe.
func TestBadHTTP(t *testing.T) {
	r, site := startSite(t)
	der := r.Request(signertest.GoodSerial)
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
	r.Copy.Change(r.Time(), r.CA.ID, signertest.Serial(signertest.GoodSerial), r.RevokedRow(r.Time(), db.ReasonKeyCompromise))
	der := r.Request(signertest.GoodSerial)
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

// What is not OCSP is counted by its status, under a label that is there from the start.
func TestRejectionsAreCounted(t *testing.T) {
	r := newRig(t)
	registry := prometheus.NewPedanticRegistry()
	site := httptest.NewServer(Handler(r.Responder, registry))
	defer site.Close()
	_, _ = do(t, newRequest(t, http.MethodPut, site.URL, nil))
	want := `
# HELP ocspd_http_rejected_total HTTP requests that are not OCSP, by status code.
# TYPE ocspd_http_rejected_total counter
ocspd_http_rejected_total{code="400"} 0
ocspd_http_rejected_total{code="405"} 1
ocspd_http_rejected_total{code="408"} 0
ocspd_http_rejected_total{code="413"} 0
ocspd_http_rejected_total{code="414"} 0
ocspd_http_rejected_total{code="415"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) != 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
