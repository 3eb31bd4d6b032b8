package ocsphttp

import (
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"ocspfleet/integration/testkit/signertest"
)

// RFC 9110 sections 13.1.3 and 13.2.2: a date counts only without If-None-Match,
// only if it is one HTTP-date, only for GET and HEAD; here only for good.
func TestRFC9110_13_1_3_IfModifiedSince(t *testing.T) {
	r, site := startSite(t)
	good, revoked, absent := pathOf(r.Request(signertest.GoodSerial)), pathOf(r.Request(signertest.RevokedSerial)), pathOf(r.Request(signertest.AbsentSerial))
	resp, _ := get(t, site+good)
	etag, modified := resp.Header.Get("Etag"), resp.Header.Get("Last-Modified")
	at, err := http.ParseTime(modified)
	if err != nil {
		t.Fatal(err)
	}
	stamp := func(d time.Duration) string { return at.Add(d).Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		method, path string
		since        []string
		match        string
		want         int
	}{
		"the date itself":             {"GET", good, []string{modified}, "", 304},
		"HEAD":                        {"HEAD", good, []string{modified}, "", 304},
		"a later date":                {"GET", good, []string{stamp(time.Hour)}, "", 304},
		"a second earlier":            {"GET", good, []string{stamp(-time.Second)}, "", 200},
		"RFC 850":                     {"GET", good, []string{at.Format("Monday, 02-Jan-06 15:04:05 GMT")}, "", 304},
		"asctime":                     {"GET", good, []string{at.Format(time.ANSIC)}, "", 304},
		"no date":                     {"GET", good, []string{"yesterday"}, "", 200},
		"two dates":                   {"GET", good, []string{modified, modified}, "", 200},
		"If-None-Match does not hold": {"GET", good, []string{modified}, `"other"`, 200},
		"If-None-Match holds":         {"GET", good, []string{stamp(-time.Hour)}, etag, 304},
		"revoked":                     {"GET", revoked, []string{stamp(time.Hour)}, "", 200},
		"unknown":                     {"GET", absent, []string{stamp(time.Hour)}, "", 200},
	} {
		req := newRequest(t, c.method, site+c.path, nil)
		req.Header["If-Modified-Since"] = c.since
		if c.match != "" {
			req.Header.Set("If-None-Match", c.match)
		}
		resp, body := do(t, req)
		if resp.StatusCode != c.want || (len(body) > 0) != (c.want == 200 && c.method == "GET") {
			t.Errorf("%s: status %d with %d octets, want %d", name, resp.StatusCode, len(body), c.want)
		}
		if c.want == 304 && (resp.Header.Get("Etag") != etag || resp.Header.Get("Last-Modified") != modified || resp.Header.Get("Cache-Control") == "") {
			t.Errorf("%s: a 304 without its headers (RFC 9110 section 15.4.5): %v", name, resp.Header)
		}
	}
	req := newRequest(t, http.MethodPost, site, r.Request(signertest.GoodSerial))
	req.Header.Set("If-Modified-Since", modified)
	req.Header.Set("If-None-Match", etag)
	if resp, body := do(t, req); resp.StatusCode != 200 || len(body) == 0 {
		t.Errorf("POST: status %d", resp.StatusCode)
	}
}

// The trap behind that rule: good and its revocation within one second have one
// Last-Modified, and the client that asks by date must hear of the revocation.
func TestRevocationWithinTheSecondIsNo304(t *testing.T) {
	r, site := startSite(t)
	path := pathOf(r.Request(signertest.GoodSerial))
	resp, _ := get(t, site+path)
	r.Copy.Change(r.Time(), 1, signertest.Serial(signertest.GoodSerial), r.RevokedRow(r.Time(), 1))
	req := newRequest(t, http.MethodGet, site+path, nil)
	req.Header.Set("If-Modified-Since", resp.Header.Get("Last-Modified"))
	again, body := do(t, req)
	if again.StatusCode != 200 || again.Header.Get("Last-Modified") != resp.Header.Get("Last-Modified") {
		t.Fatalf("status %d, Last-Modified %s and %s", again.StatusCode, resp.Header.Get("Last-Modified"), again.Header.Get("Last-Modified"))
	}
	if answer, err := ocsp.ParseResponse(body, r.CA.Cert); err != nil || answer.Status != ocsp.Revoked {
		t.Errorf("%+v, %v", answer, err)
	}
}
