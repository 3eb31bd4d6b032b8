package signer

import (
	"crypto/rand"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// signCRL makes a CRL of this number.
func (ca *testCA) signCRL(t *testing.T, number int64) []byte {
	t.Helper()
	issuer := *ca.cert
	issuer.KeyUsage, issuer.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: noon.Add(-time.Hour), NextUpdate: noon.Add(time.Hour),
	}, &issuer, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Every site serves the CRL of its pinned issuers, conditionally too, and nothing
// that their keys have not signed; all else below the path is OCSP.
func TestCRLIsServedOnlyIfTheIssuerSignedIt(t *testing.T) {
	r := newRig(t)
	server := httptest.NewServer(r.WithCRLs(r.Handler(HTTPConfig{})))
	defer server.Close()
	put := func(der []byte) {
		r.source.edit(func() {
			rows := append(r.source.issuers[:0:0], r.source.issuers...)
			rows[0].CRL = der
			r.source.issuers = rows
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
	der := r.ca.signCRL(t, 7)
	put(der)
	resp, body := ask("/crl/root-one")
	if resp.StatusCode != http.StatusOK || body != string(der) || resp.Header.Get("Content-Type") != "application/pkix-crl" ||
		resp.Header.Get("Cache-Control") != "max-age=600, public, no-transform, must-revalidate" || resp.Header.Get("Last-Modified") != "Sun, 22 Nov 2026 11:00:00 GMT" {
		t.Errorf("status %d, %d octets, header %v", resp.StatusCode, len(body), resp.Header)
	}
	if again, _ := ask("/crl/root-one", "If-None-Match", resp.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("the same again: status %d", again.StatusCode)
	}
	if again, _ := ask("/prefix" + pathOf(r.request(goodSerial))); again.Header.Get("Content-Type") != responseType {
		t.Errorf("OCSP beside it: %v", again.Header)
	}
	if again, _ := ask("/crl" + pathOf(r.request(goodSerial))); again.Header.Get("Content-Type") != responseType {
		t.Errorf("OCSP below /crl/: %v", again.Header)
	}
	eighth := r.ca.signCRL(t, 8)
	put(eighth)
	if newer, _ := ask("/crl/root-one", "If-None-Match", resp.Header.Get("ETag")); newer.StatusCode != http.StatusOK {
		t.Errorf("a newer one: status %d", newer.StatusCode)
	}
	older := r.ca.signCRL(t, 7)
	put(older)
	for range 2 { // the second time it is not read again
		if _, body := ask("/crl/root-one"); body != string(eighth) {
			t.Error("a lower number took the place of a higher one")
		}
	}
	r.setTime(noon.Add(time.Hour)) // the higher one has ended
	if _, body := ask("/crl/root-one"); body != string(older) {
		t.Error("what has ended is kept")
	}
	r.setTime(noon)
	put(newCA(t, 1, "root-one", newKey(t)).signCRL(t, 9))
	isOCSP("another key's", "/crl/root-one")
	put([]byte("rubbish"))
	isOCSP("rubbish", "/crl/root-one")
	isOCSP("no issuer of ours", "/crl/root-two")
}
