package integration

import (
	"bufio"
	"bytes"
	"crypto"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	neturl "net/url"
	"path/filepath"
	"strings"
	"testing"

	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"
)

// certIDOf cuts the CertID out of a plain request: who answers must echo it.
func certIDOf(t *testing.T, request []byte) []byte {
	t.Helper()
	in := cryptobyte.String(request)
	var outer, tbs, list, single, id cryptobyte.String
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1(&tbs, asn1.SEQUENCE) || !tbs.ReadASN1(&list, asn1.SEQUENCE) ||
		!list.ReadASN1(&single, asn1.SEQUENCE) || !single.ReadASN1Element(&id, asn1.SEQUENCE) {
		t.Fatal("cutting the CertID: malformed request")
	}
	return id
}

// slashed is a request whose base64 holds "//", "/" and "+".
func slashed(t *testing.T, f *devfleet.Fleet, issuer devfleet.Issuer) (der []byte, text string) {
	t.Helper()
	for n := range 1_000_000 {
		der, _, _ = request(t, f, issuer, fmt.Sprintf("0fffff%08xffff0fffff", n*2654435761&0x7fffffff), crypto.SHA1)
		text = base64.StdEncoding.EncodeToString(der)
		if strings.Contains(text, "//") && strings.Contains(text, "+") && strings.HasSuffix(text, "=") {
			return der, text
		}
	}
	t.Fatal("no such serial")
	return nil, ""
}

// writings are the ways in which clients write a GET.
func writings(text string) map[string]string {
	escaped := neturl.QueryEscape(text)
	return map[string]string{
		"escaped":             "/" + escaped,
		"escaped, lower case": "/" + strings.NewReplacer("%2F", "%2f", "%2B", "%2b", "%3D", "%3d").Replace(escaped),
		"raw":                 "/" + text,
		"raw, no padding":     "/" + strings.TrimRight(text, "="),
		"leading slash":       "//" + text,
		"leading, escaped":    "//" + escaped,
		"prefix":              "/ocsp/r1/" + text,
		"base64url":           "/" + strings.NewReplacer("+", "-", "/", "_").Replace(text),
		"newline at the end":  "/" + escaped + "%0A",
	}
}

// rawGET sends a path as it is, which net/http would clean, and returns the answer.
func rawGET(t *testing.T, address, version, path string) (*http.Response, []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/%s\r\nHost: ocsp.example\r\nConnection: close\r\n\r\n", path, version)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return response, body
}

// checkFront asks everything that proxies were seen to break: what comes through
// the front is what the site itself says.
func checkFront(t *testing.T, f *devfleet.Fleet, site devfleet.Site, address string) {
	t.Helper()
	for _, issuer := range f.Issuers {
		der, text := slashed(t, f, issuer)
		_, want, err := post(t.Context(), site.URL, der)
		if err != nil || !bytes.Contains(want, certIDOf(t, der)) {
			t.Fatalf("the site itself: %d octets, %v", len(want), err)
		}
		for _, version := range []string{"1.1", "1.0"} {
			for name, path := range writings(text) {
				response, got := rawGET(t, address, version, path)
				if response.StatusCode != http.StatusOK || !bytes.Contains(got, certIDOf(t, der)) {
					t.Errorf("%s, HTTP/%s: status %d, %d octets", name, version, response.StatusCode, len(got))
				}
				if c := response.Header.Get("Cache-Control"); !strings.Contains(c, "max-age=") || !strings.Contains(c, "no-transform") {
					t.Errorf("%s: Cache-Control %q", name, c)
				}
			}
		}
	}
	url := "http://" + address
	der, _, _ := request(t, f, f.Issuers[0], f.Issuers[0].Serials.Good[3], crypto.SHA256)
	response, body, err := get(t.Context(), url, der)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("GET: %v %v", response, err)
	}
	for _, header := range []string{"Date", "Last-Modified", "Expires", "Etag", "Content-Type"} {
		if response.Header.Get(header) == "" {
			t.Errorf("%s did not come through", header)
		}
	}
	again, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/"+neturl.PathEscape(base64.StdEncoding.EncodeToString(der)), nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Header.Set("If-None-Match", response.Header.Get("Etag"))
	if unchanged, _, err := do(again); err != nil || unchanged.StatusCode != http.StatusNotModified {
		t.Errorf("conditional GET: %v %v", unchanged, err)
	}
	again.Header.Del("If-None-Match")
	again.Method = http.MethodHead
	if head, nothing, err := do(again); err != nil || head.StatusCode != 200 || len(nothing) > 0 || head.ContentLength != int64(len(body)) {
		t.Errorf("HEAD: %v %v", head, err)
	}
	if _, refused, err := post(t.Context(), url, []byte("garbage")); err != nil || !bytes.Equal(refused, ocsp.MalformedRequestErrorResponse) {
		t.Errorf("garbage: %x, %v", refused, err)
	}
	if huge, _, err := post(t.Context(), url, make([]byte, 20<<10)); err != nil || huge.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("20 KiB: %v, %v", huge, err)
	}
}

// nginxFront starts nginx with the documented sample, changed by edit, and
// returns its address.
func nginxFront(t *testing.T, site devfleet.Site, edit func(string) string) string {
	t.Helper()
	nginx, dir, address := tool(t, "nginx", "nginx"), t.TempDir(), freeAddress(t)
	sample := edited(t, filepath.Join("..", "deploy", "nginx", "ocsp.conf"), map[string]string{
		"listen 80;": "listen " + address + ";", "127.0.0.1:9079": strings.TrimPrefix(site.URL, "http://"),
	})
	serve(t, []string{address}, nginx, "-p", dir, "-c", put(t, filepath.Join(dir, "nginx.conf"), nginxConfig(dir, edit(sample))))
	return address
}

// edited is a documented sample with other addresses.
func edited(t *testing.T, file string, changes map[string]string) string {
	t.Helper()
	text := contents(t, file)
	for from, to := range changes {
		if !strings.Contains(text, from) {
			t.Fatalf("%s has no %q any more", file, from)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	return text
}

func asItIs(text string) string { return text }

func TestBehindNginx(t *testing.T) {
	f := shared(t)
	checkFront(t, f, f.Sites[0], nginxFront(t, f.Sites[0], asItIs))
}

// Without a path in proxy_pass nginx sends what it got even where merge_slashes is
// on, its default. With one it does not: "//" breaks, and it is seen to be broken,
// never answered for another certificate.
func TestBehindNginxWithMergedSlashes(t *testing.T) {
	f := shared(t)
	site := f.Sites[0]
	merged := func(text string) string { return strings.Replace(text, "merge_slashes off", "merge_slashes on", 1) }
	checkFront(t, f, site, nginxFront(t, site, merged))
	address := nginxFront(t, site, func(text string) string {
		return strings.Replace(merged(text), "proxy_pass http://ocspd;", "proxy_pass http://ocspd/;", 1)
	})
	der, text := slashed(t, f, f.Issuers[0])
	for name, path := range writings(text) {
		response, got := rawGET(t, address, "1.1", path)
		right := bytes.Contains(got, certIDOf(t, der))
		if response.StatusCode >= 500 || (!right && len(got) != len(ocsp.MalformedRequestErrorResponse)) {
			t.Errorf("%s: status %d, %x", name, response.StatusCode, got)
		}
		if name == "raw" && right {
			t.Error("merged slashes are harmless: the sample's warning is out of date")
		}
	}
}

func TestBehindHAProxy(t *testing.T) {
	f := shared(t)
	address := haproxyFront(t, f.Sites[0])
	checkFront(t, f, f.Sites[0], address)
}

func haproxyFront(t *testing.T, site devfleet.Site) string {
	t.Helper()
	haproxy, dir, address := tool(t, "haproxy", "haproxy"), t.TempDir(), freeAddress(t)
	_, admin, _ := strings.Cut(strings.TrimPrefix(site.AdminURL, "http://"), ":")
	sample := edited(t, filepath.Join("..", "deploy", "haproxy", "ocsp.cfg"), map[string]string{
		"bind :80": "bind " + address, "127.0.0.1:9079": strings.TrimPrefix(site.URL, "http://"), "port 9080": "port " + admin,
	})
	serve(t, []string{address}, haproxy, "-db", "-f", put(t, filepath.Join(dir, "haproxy.cfg"), sample))
	return address
}
