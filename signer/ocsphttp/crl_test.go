package ocsphttp

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ocspfleet/integration/testkit/signertest"
)

// Every site serves the CRL of its pinned issuers, conditionally too, and nothing
// that their keys have not signed; all else below the path is OCSP.
func TestCRLIsServedOnlyIfTheIssuerSignedIt(t *testing.T) {
	r := newRig(t)
	server := httptest.NewServer(WithCRLs(r.Responder, r.Time, Handler(r.Responder, nil)))
	defer server.Close()
	put := func(der []byte) {
		r.Copy.Edit(func() {
			rows := append(r.Copy.IssuerRows[:0:0], r.Copy.IssuerRows...)
			rows[0].CRL = der
			r.Copy.IssuerRows = rows
		})
		r.refreshed()
	}
	ask := func(path string, header ...string) (*http.Response, string) {
		req := newRequest(t, http.MethodGet, server.URL+path, nil)
		if len(header) > 0 {
			req.Header.Set(header[0], header[1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	isOCSP := func(why, path string) {
		t.Helper()
		if resp, _ := ask(path); resp.Header.Get("Content-Type") == "application/pkix-crl" {
			t.Errorf("%s: a CRL was served", why)
		}
	}
	isOCSP("there is none", "/crl/root-one")
	der := r.CA.SignCRL(t, 7)
	put(der)
	resp, body := ask("/crl/root-one")
	if resp.StatusCode != http.StatusOK || body != string(der) || resp.Header.Get("Content-Type") != "application/pkix-crl" ||
		resp.Header.Get("Cache-Control") != "max-age=600, public, no-transform, must-revalidate" || resp.Header.Get("Last-Modified") != "Sun, 22 Nov 2026 11:00:00 GMT" {
		t.Errorf("status %d, %d octets, header %v", resp.StatusCode, len(body), resp.Header)
	}
	if again, _ := ask("/crl/root-one", "If-None-Match", resp.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("the same again: status %d", again.StatusCode)
	}
	if again, _ := ask("/prefix" + pathOf(r.Request(signertest.GoodSerial))); again.Header.Get("Content-Type") != responseType {
		t.Errorf("OCSP beside it: %v", again.Header)
	}
	if again, _ := ask("/crl" + pathOf(r.Request(signertest.GoodSerial))); again.Header.Get("Content-Type") != responseType {
		t.Errorf("OCSP below /crl/: %v", again.Header)
	}
	eighth := r.CA.SignCRL(t, 8)
	put(eighth)
	if newer, _ := ask("/crl/root-one", "If-None-Match", resp.Header.Get("ETag")); newer.StatusCode != http.StatusOK {
		t.Errorf("a newer one: status %d", newer.StatusCode)
	}
	older := r.CA.SignCRL(t, 7)
	put(older)
	for range 2 { // the second time it is not read again
		if _, body := ask("/crl/root-one"); body != string(eighth) {
			t.Error("a lower number took the place of a higher one")
		}
	}
	r.SetTime(signertest.Noon.Add(time.Hour)) // the higher one has ended
	if _, body := ask("/crl/root-one"); body != string(older) {
		t.Error("what has ended is kept")
	}
	r.SetTime(signertest.Noon)
	put(signertest.NewCA(t, 1, "root-one", signertest.NewKey(t)).SignCRL(t, 9))
	isOCSP("another key's", "/crl/root-one")
	put([]byte("rubbish"))
	isOCSP("rubbish", "/crl/root-one")
	isOCSP("no issuer of ours", "/crl/root-two")
}
