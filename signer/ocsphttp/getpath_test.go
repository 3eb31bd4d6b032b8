package ocsphttp

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"ocspfleet/integration/testkit/signertest"
	"ocspfleet/signer/wire"
)

// slashedRequest is a request whose base64 holds slashes, a double one, and plus
// signs, so that every trap is sprung.
func slashedRequest(tb testing.TB, ca *signertest.CA) []byte {
	tb.Helper()
	for n := int64(1); n < 1_000_000; n++ {
		serial := new(big.Int).Lsh(big.NewInt(0x3fffff), 32)
		der := signertest.Request(tb, ca, crypto.SHA1, serial.Add(serial, big.NewInt(n*0x3eff)))
		text := base64.StdEncoding.EncodeToString(der)
		if strings.Contains(text, "//") && strings.Contains(text, "+") && strings.HasSuffix(text, "=") {
			return der
		}
	}
	tb.Fatal("no such serial")
	return nil
}

// pathsOf are the ways in which clients and proxies write one request.
func pathsOf(der []byte) map[string]string {
	text := base64.StdEncoding.EncodeToString(der)
	bare := strings.TrimRight(text, "=")
	lower := strings.NewReplacer("%2F", "%2f", "%2B", "%2b", "%3D", "%3d").Replace(url.QueryEscape(text))
	return map[string]string{
		"escaped":             "/" + url.QueryEscape(text),
		"escaped, lower case": "/" + lower,
		"as it is":            "/" + text,
		"no padding":          "/" + bare,
		"leading slash":       "//" + text,
		"two leading slashes": "///" + url.QueryEscape(text),
		"prefix":              "/ocsp/" + url.QueryEscape(text),
		"prefix, as it is":    "/ocsp/r1/" + text,
		"prefix and slash":    "/ocsp//" + text,
		"prefix like base64":  "/MEDIA/MFoo/" + text,
		"base64url":           "/" + base64.URLEncoding.EncodeToString(der),
		"base64url, bare":     "/" + base64.RawURLEncoding.EncodeToString(der),
		"newline at the end":  "/" + url.QueryEscape(text+"\n"),
		"line breaks":         "/" + url.QueryEscape(text[:64]+"\r\n"+text[64:]+"\r\n"),
		"plus as blank":       "/" + strings.ReplaceAll(text, "+", "%20"),
		"escaped twice":       "/" + url.PathEscape(url.QueryEscape(text)),
		"slashes only":        "/" + strings.ReplaceAll(text, "/", "%2F"),
		"plus signs only":     "/" + strings.ReplaceAll(text, "+", "%2B"),
	}
}

// Whatever the way it is written, a GET gets the very octets of the POST.
func TestGETEqualsPOST(t *testing.T) {
	r := newRig(t)
	server := httptest.NewServer(Handler(r.Responder, nil))
	defer server.Close()
	for _, der := range [][]byte{
		slashedRequest(t, r.CA), r.Request(signertest.GoodSerial),
		signertest.Join(t, nil, r.Request(signertest.GoodSerial)), signertest.Request(t, r.CA, crypto.SHA512, signertest.RevokedSerial),
	} {
		_, want := post(t, server.URL+"/", der)
		if len(want) < 100 {
			t.Fatal("POST got an error")
		}
		for name, path := range pathsOf(der) {
			resp, got := get(t, server.URL+path)
			if resp.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
				t.Errorf("%s: %s: status %d, %d octets, want the %d of the POST", name, path, resp.StatusCode, len(got), len(want))
			}
		}
	}
}

func TestPathsWithoutRequest(t *testing.T) {
	var w pathWork
	for _, path := range []string{
		"", "/", "/favicon.ico", "/M", "/MAAA", "/MEowSDBGMEQwQjAJBgUrDgMCGgUABB", "/ocsp/", "/../../etc/passwd",
		"/MA==", "/MAAAAAAA", "/" + strings.Repeat("M", 4000), strings.Repeat("/MIIPoDCC", 400), "/%%%", "/M\x00\xff",
	} {
		if der, ok := decodeGET(path, &w); ok && wire.ParseRequestInto(der, &w.req) == nil {
			t.Errorf("%.40q: found a request", path)
		}
	}
}

// A GET that is base64 of something malformed is answered as its POST is.
func TestMalformedInPath(t *testing.T) {
	var w pathWork
	der := []byte{0x30, 9, 0x30, 7, 0x30, 5, 0x30, 3, 0x02, 1, 5}
	got, ok := decodeGET("/ocsp/"+base64.StdEncoding.EncodeToString(der), &w)
	if !ok || !bytes.Equal(got, der) {
		t.Errorf("got %x, %v", got, ok)
	}
}

// Whatever comes: no panic, and what is found is a SEQUENCE that lies in the
// path. What our own encoder puts in is found again, below any prefix.
func FuzzGETPath(f *testing.F) {
	ca := signertest.NewCA(f, 1, "root-one", signertest.NewKey(f))
	request := slashedRequest(f, ca)
	for _, path := range pathsOf(request) {
		f.Add(path)
	}
	f.Add("/MEDIA/MFoo/MIIB")
	text := base64.StdEncoding.EncodeToString(request)
	f.Fuzz(func(t *testing.T, path string) {
		var w pathWork
		der, ok := decodeGET(path, &w)
		if ok && (len(der) < 2 || der[0] != 0x30 || len(der) > len(path)) {
			t.Fatalf("found %x in %q", der, path)
		}
		// A prefix of a few segments, as a responder's URL has it, hides nothing.
		if len(path) < 40 && strings.Count(path, "/M") < maxCuts && !strings.ContainsAny(path, "%\r\n") {
			if der, ok := decodeGET("/"+path+"/"+text, &w); !ok || !bytes.Equal(der, request) {
				t.Fatalf("the request is not found behind %q", path)
			}
		}
	})
}
