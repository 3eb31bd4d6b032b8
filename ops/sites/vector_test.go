package sites

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

const vectors = "testdata/vectors"

// vectorCertificates are those of a file, the issuer first.
func vectorCertificates(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	var list []*x509.Certificate
	for block, rest := pem.Decode(must(os.ReadFile(filepath.Join(vectors, "openssl", name)))); block != nil; block, rest = pem.Decode(rest) {
		list = append(list, must(x509.ParseCertificate(block.Bytes)))
	}
	if len(list) == 0 {
		t.Fatalf("%s is no PEM", name)
	}
	return list
}

func vectorAnswer(t *testing.T, name string) []byte {
	t.Helper()
	text := string(must(os.ReadFile(filepath.Join(vectors, "openssl", name))))
	return must(base64.StdEncoding.DecodeString(strings.NewReplacer("\n", "", "\r", "").Replace(text)))
}

// We believe what openssl believes and nothing else, in all its runs, each at its
// answer's time (openssl only warns of old ones). Where a run gives intermediates,
// openssl builds the chain; here the issuer is pinned, so that the chain above it
// is the test's own to look at.
func TestVectorsOfOpenSSL(t *testing.T) {
	var runs []struct {
		Title, Response, Issuer, Untrusted string
		Exit                               int `json:"expected_exit"`
	}
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join(vectors, "openssl", "expect.json"))), &runs); err != nil {
		t.Fatal(err)
	}
	believed := 0
	for _, run := range runs {
		whole := run.Response[strings.LastIndex(run.Response, "_")+1:] // ISOP_D1.ors is a broken D1.ors
		at := must(ocsp.ParseResponse(vectorAnswer(t, whole), nil)).ThisUpdate.Add(time.Second)
		ca := vectorCertificates(t, run.Issuer)[0]
		var chain error
		if run.Untrusted != "" {
			links := append(vectorCertificates(t, run.Untrusted), ca)
			ca = links[0]
			for i, c := range links[:len(links)-1] {
				chain = errors.Join(chain, links[i+1].CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature))
			}
		}
		_, err := Verify(vectorAnswer(t, run.Response), ca, at)
		got := err == nil && chain == nil
		if got != (run.Exit == 0) {
			t.Errorf("%s (%s by %s %s): believed %t, openssl ends with %d: %v, %v", run.Title, run.Response, run.Issuer, run.Untrusted, got, run.Exit, err, chain)
		}
		if got {
			believed++
		}
		for _, other := range []time.Time{at.AddDate(-1, 0, 0), at.AddDate(1, 0, 0)} {
			if _, err := Verify(vectorAnswer(t, run.Response), ca, other); err == nil {
				t.Errorf("%s: believed at %v", run.Response, other)
			}
		}
	}
	if len(runs) != 59 || believed != 13 {
		t.Errorf("%d runs, %d believed", len(runs), believed)
	}
}

// The answers that pyca's tests collect. None of these issuers is ours: nothing is
// believed. What can be read is read as pyca reads it; what cannot is refused, by
// name.
func TestVectorsOfPyca(t *testing.T) {
	ca := vectorCertificates(t, "D1_Issuer_ICA.pem")[0]
	files := must(filepath.Glob(filepath.Join(vectors, "pyca", "*.der")))
	want := map[string]string{
		"ocsp-army.deps.mil-resp.der":           "bad number of responses", // several certificates in one answer: we ask for one
		"resp-delegate-unknown-cert.der":        "unknown",
		"resp-invalid-signature-oid.der":        "good", // and no signature that anybody could verify
		"resp-responder-key-hash.der":           "revoked",
		"resp-response-type-unknown-oid.der":    "bad OCSP response type",
		"resp-revoked-no-next-update.der":       "revoked",
		"resp-revoked-reason.der":               "revoked",
		"resp-revoked.der":                      "revoked",
		"resp-sct-extension.der":                "good",
		"resp-sha256.der":                       "good",
		"resp-single-extension-reason.der":      "good",
		"resp-successful-no-response-bytes.der": "bad OCSP response type",
		"resp-unauthorized.der":                 "unauthorized",
		"resp-unknown-extension.der":            "bad signature on embedded certificate", // its certificate is not its signer's
		"resp-unknown-hash-alg.der":             "unsupported issuer hash algorithm",
		"resp-unknown-response-status.der":      "unknown OCSP status: 7",
	}
	if len(files) != len(want) {
		t.Errorf("%d files, want %d", len(files), len(want))
	}
	for _, file := range files {
		name := filepath.Base(file)
		raw := must(os.ReadFile(file))
		answer, err := ocsp.ParseResponse(raw, nil)
		at := time.Unix(1355875200, 0)
		if err == nil {
			at = answer.ThisUpdate
			if got := statusName(answer.Status); got != want[name] {
				t.Errorf("%s says %s, want %s", name, got, want[name])
			}
		} else if !strings.Contains(err.Error(), want[name]) {
			t.Errorf("%s: %v, want %s", name, err, want[name])
		}
		if _, err := Verify(raw, ca, at); err == nil {
			t.Errorf("%s was believed", name)
		}
	}
}
