package integration

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"io"
	"math/big"
	"net/http"
	neturl "net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

// openssl asks as OpenSSLArgs do, with more flags, and returns what it says.
func openssl(t *testing.T, f *devfleet.Fleet, args []string, more ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// The hash is a setting of the CertIDs that follow it.
	cmd := exec.CommandContext(ctx, "openssl", append(append([]string{args[0]}, more...), args[1:]...)...)
	cmd.Dir = f.Root()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	return string(out)
}

func TestOpenSSLVerifiesEveryStatusFromEverySite(t *testing.T) {
	f := shared(t)
	for _, site := range lasting(f) {
		for _, issuer := range f.Issuers {
			for _, hash := range []string{"-sha1", "-sha256"} {
				t.Run(site.Name+"/"+issuer.Name+hash, func(t *testing.T) {
					ask := func(serial, want string) string {
						said := openssl(t, f, f.OpenSSLArgs(site, issuer, serial), hash)
						if !strings.Contains(said, "Response verify OK") || !strings.Contains(said, "0x"+serial+": "+want) {
							t.Errorf("serial %s: want a verified %s, got:\n%s", serial, want, said)
						}
						if strings.Contains(said, "nonce") {
							t.Errorf("serial %s: the nonce did not come back:\n%s", serial, said)
						}
						return said
					}
					for _, serial := range issuer.Serials.Good[:5] {
						ask(serial, "good")
					}
					for _, revoked := range issuer.Serials.Revoked[:13] {
						checkRevocation(t, ask(revoked.Serial, "revoked"), revoked)
					}
					ask(issuer.Serials.NeverIssued[0], "unknown")
				})
			}
		}
	}
}

// checkRevocation compares openssl's words with what the CA's index said.
func checkRevocation(t *testing.T, said string, want devfleet.Revoked) {
	t.Helper()
	at, err := time.Parse(time.RFC3339, want.RevokedAt)
	if err != nil {
		t.Fatal(err)
	}
	if line := "Revocation Time: " + at.Format("Jan _2 15:04:05 2006 GMT"); !strings.Contains(said, line) {
		t.Errorf("serial %s: want %q in:\n%s", want.Serial, line, said)
	}
	_, after, given := strings.Cut(said, "Reason: ")
	reason, _, _ := strings.Cut(after, "\n")
	switch {
	case want.Reason == nil && given:
		t.Errorf("serial %s: reason %q, but none was given", want.Serial, reason)
	case want.Reason != nil && !strings.EqualFold(reason, *want.Reason):
		t.Errorf("serial %s: reason %q, want %q", want.Serial, reason, *want.Reason)
	}
}

func TestOneSerialOfTwoIssuersIsTwoCertificates(t *testing.T) {
	f := shared(t)
	good := map[string]bool{}
	for _, serial := range f.Issuers[0].Serials.Good {
		good[serial] = true
	}
	for _, revoked := range f.Issuers[1].Serials.Revoked {
		if !good[revoked.Serial] {
			continue
		}
		for _, site := range lasting(f) {
			await(t, f, site, f.Issuers[0], revoked.Serial, ocsp.Good, time.Second)
			await(t, f, site, f.Issuers[1], revoked.Serial, ocsp.Revoked, time.Second)
		}
		return
	}
	t.Error("no serial is good at the first issuer and revoked at the second")
}

// get asks by GET, RFC 6960 appendix A.1.
func get(ctx context.Context, url string, request []byte) (*http.Response, []byte, error) {
	path := neturl.PathEscape(base64.StdEncoding.EncodeToString(request))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/"+path, nil)
	if err != nil {
		return nil, nil, err
	}
	return do(r)
}

func do(r *http.Request) (*http.Response, []byte, error) {
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

func post(ctx context.Context, url string, request []byte) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(request))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	return do(r)
}

// request makes a request for a serial as x/crypto/ocsp does.
func request(t *testing.T, f *devfleet.Fleet, issuer devfleet.Issuer, serial string, hash crypto.Hash) (der []byte, asked, ca *x509.Certificate) {
	t.Helper()
	ca, err := f.IssuerCertificate(issuer)
	if err != nil {
		t.Fatal(err)
	}
	octets, err := hex.DecodeString(serial)
	if err != nil {
		t.Fatal(err)
	}
	asked = &x509.Certificate{SerialNumber: new(big.Int).SetBytes(octets)}
	der, err = ocsp.CreateRequest(asked, ca, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return der, asked, ca
}

func TestGETAndPOSTAgree(t *testing.T) {
	f := shared(t)
	for _, issuer := range f.Issuers {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			der, asked, ca := request(t, f, issuer, issuer.Serials.Revoked[3].Serial, hash)
			response, byGET, err := get(t.Context(), f.Sites[0].URL, der)
			if err != nil {
				t.Fatal(err)
			}
			_, byPOST, err := post(t.Context(), f.Sites[0].URL, der)
			if err != nil {
				t.Fatal(err)
			}
			for how, body := range map[string][]byte{"GET": byGET, "POST": byPOST} {
				answer, err := ocsp.ParseResponseForCert(body, asked, ca)
				if err != nil {
					t.Fatalf("issuer %s, %s, %v: %v", issuer.Name, how, hash, err)
				}
				if answer.Status != ocsp.Revoked {
					t.Errorf("issuer %s, %s, %v: %s", issuer.Name, how, hash, devfleet.StatusName(answer.Status))
				}
				if answer.NextUpdate.Before(time.Now()) || answer.ThisUpdate.After(time.Now()) {
					t.Errorf("issuer %s, %s: thisUpdate %v, nextUpdate %v", issuer.Name, how, answer.ThisUpdate, answer.NextUpdate)
				}
				// RFC 9919: the answer is never valid longer than its signer.
				if answer.NextUpdate.After(answer.Certificate.NotAfter) {
					t.Errorf("nextUpdate %v lies after the signer's end %v", answer.NextUpdate, answer.Certificate.NotAfter)
				}
			}
			for _, header := range []string{"Cache-Control", "ETag", "Expires", "Last-Modified", "Date"} {
				if response.Header.Get(header) == "" {
					t.Errorf("GET without %s (RFC 9919 section 7.2)", header)
				}
			}
			if kind := response.Header.Get("Content-Type"); kind != "application/ocsp-response" {
				t.Errorf("Content-Type %q", kind)
			}
		}
	}
}

func TestBadInputGetsAnOCSPErrorOr4xx(t *testing.T) {
	f := shared(t)
	site, issuer := f.Sites[0], f.Issuers[0]
	good, _, _ := request(t, f, issuer, issuer.Serials.Good[0], crypto.SHA1)
	strangerDER := bytes.Clone(good)
	strangerDER[len(strangerDER)-40] ^= 0xff // within the hashes of name and key
	const kind = "application/ocsp-request"
	for _, bad := range []struct {
		name, method, path, contentType string
		body                            []byte
		httpStatus                      int
		ocspStatus                      ocsp.ResponseStatus // when httpStatus is 200
	}{
		{"garbage", "POST", "/", kind, []byte("what do you say?"), 200, ocsp.Malformed},
		{"empty", "POST", "/", kind, nil, 200, ocsp.Malformed},
		{"truncated", "POST", "/", kind, good[:len(good)-5], 200, ocsp.Malformed},
		{"trailing bytes", "POST", "/", kind, append(bytes.Clone(good), 0), 200, ocsp.Malformed},
		{"oversized", "POST", "/", kind, bytes.Repeat([]byte{0x30}, 20<<10), 413, 0},
		{"unknown issuer", "POST", "/", kind, strangerDER, 200, ocsp.Unauthorized},
		{"wrong type", "POST", "/", "text/plain", good, 415, 0},
		{"wrong method", "PUT", "/", kind, good, 405, 0},
		{"another wrong method", "DELETE", "/", "", nil, 405, 0},
		{"GET of no base64", "GET", "/@@@@", "", nil, 200, ocsp.Malformed},
		{"GET of garbage", "GET", "/Z2FyYmFnZQ==", "", nil, 200, ocsp.Malformed},
		{"GET far too long", "GET", "/" + strings.Repeat("A", 6000), "", nil, 414, 0},
	} {
		t.Run(bad.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), bad.method, site.URL+bad.path, bytes.NewReader(bad.body))
			if err != nil {
				t.Fatal(err)
			}
			if bad.contentType != "" {
				r.Header.Set("Content-Type", bad.contentType)
			}
			response, body, err := do(r)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != bad.httpStatus {
				t.Fatalf("HTTP status %d, want %d; body %q", response.StatusCode, bad.httpStatus, body)
			}
			if bad.httpStatus != http.StatusOK {
				return
			}
			_, err = ocsp.ParseResponse(body, nil)
			if want := (ocsp.ResponseError{Status: bad.ocspStatus}); err != want {
				t.Errorf("got %v, want %v", err, want)
			}
			if c := response.Header.Get("Cache-Control"); !strings.Contains(c, "no-store") {
				t.Errorf("an unsigned error may be cached: Cache-Control %q", c)
			}
		})
	}
	await(t, f, site, issuer, issuer.Serials.Good[0], ocsp.Good, time.Second)
}

func TestABrokenRequestIsNeverA5xx(t *testing.T) {
	f := shared(t)
	good, _, _ := request(t, f, f.Issuers[0], f.Issuers[0].Serials.Good[0], crypto.SHA256)
	for at := range good { // every octet of a good request is broken once
		broken := bytes.Clone(good)
		broken[at] ^= 0x55
		response, body, err := post(t.Context(), f.Sites[1].URL, broken)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode >= 500 {
			t.Fatalf("octet %d broken: HTTP status %d: %q", at, response.StatusCode, body)
		}
	}
}
