package integration

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

// question is one certificate asked for at the site that its AIA names.
type question struct {
	f           *devfleet.Fleet
	url         string
	root, ca    string // PEM files
	certificate string // PEM file
}

// clients are foreign programs, each with how it says good and revoked: "good",
// "revoked", or what else it said.
var clients = map[string]func(*testing.T, question) string{
	"openssl SHA-1, nonce":      func(t *testing.T, q question) string { return q.openssl(t, "-sha1", "-nonce") },
	"openssl SHA-1, no nonce":   func(t *testing.T, q question) string { return q.openssl(t, "-sha1", "-no_nonce") },
	"openssl SHA-256, nonce":    func(t *testing.T, q question) string { return q.openssl(t, "-sha256", "-nonce") },
	"openssl SHA-256, no nonce": func(t *testing.T, q question) string { return q.openssl(t, "-sha256", "-no_nonce") },
	"openssl, GET by hand":      func(t *testing.T, q question) string { return q.opensslByHand(t) },
	"GnuTLS, nonce":             func(t *testing.T, q question) string { return q.gnutls(t, "--nonce") },
	"GnuTLS, no nonce":          func(t *testing.T, q question) string { return q.gnutls(t, "--no-nonce") },
	"NSS":                       func(t *testing.T, q question) string { return q.nss(t) },
	"Java":                      func(t *testing.T, q question) string { return q.java(t, "false") },
	"Java, nonce":               func(t *testing.T, q question) string { return q.java(t, "true") },
	"Python cryptography":       func(t *testing.T, q question) string { return q.python(t) },
	"Go, GET":                   func(t *testing.T, q question) string { return q.golang(t) },
}

// Every client, both issuers: good, revoked long before, and revoked this very
// moment, when revocationTime is later than thisUpdate.
func TestForeignClientsAgree(t *testing.T) {
	f := shared(t)
	site := f.Sites[0] // the one that AIA names
	for n, issuer := range f.Issuers {
		q := question{f: f, url: site.URL, root: f.Path(issuer.TrustAnchors[0]), ca: f.Path(issuer.Certificate)}
		justNow := issuer.Serials.Good[25] // a real certificate: openssl issued it
		if _, err := f.Ctl(t.Context(), "cert", "revoke", "--issuer", issuer.Name, "--serial", justNow, "--reason", "keyCompromise", "--apply"); err != nil {
			t.Fatal(err)
		}
		await(t, f, site, issuer, justNow, ocsp.Revoked, 10*time.Second)
		answer, err := f.Ask(t.Context(), site, issuer, justNow)
		if err != nil || !answer.RevokedAt.After(answer.ThisUpdate) {
			t.Fatalf("revoked at %v, thisUpdate %v, %v: want the former later", answer.RevokedAt, answer.ThisUpdate, err)
		}
		certificates := map[string][2]string{
			"good":             {f.Path(issuer.Leaf.Good.Certificate), "good"},
			"revoked":          {f.Path(issuer.Leaf.Revoked.Certificate), "revoked"},
			"revoked just now": {filepath.Join(filepath.Dir(f.Path(f.Issuers[n].Certificate)), "certs", justNow+".pem"), "revoked"},
		}
		for name, ask := range clients {
			t.Run(issuer.Name+"/"+name, func(t *testing.T) {
				t.Parallel()
				for what, c := range certificates {
					asked := q
					asked.certificate = c[0]
					if got := ask(t, asked); got != c[1] {
						t.Errorf("%s: it says %s", what, got)
					}
				}
			})
		}
	}
}

// verdict finds what a client said, of which it may have said one only.
func verdict(said, good, revoked string) string {
	if isGood, isRevoked := strings.Contains(said, good), strings.Contains(said, revoked); isGood != isRevoked {
		if isGood {
			return "good"
		}
		return "revoked"
	}
	return said
}

func (q question) openssl(t *testing.T, flags ...string) string {
	args := append([]string{"ocsp", "-CAfile", q.root}, flags...)
	out := said(t, "openssl", append(args, "-issuer", q.ca, "-cert", q.certificate, "-url", q.url, "-validity_period", "5")...)
	if !strings.Contains(out, "Response verify OK") || strings.Contains(out, "WARNING") {
		return out
	}
	return verdict(out, ": good\n", ": revoked\n")
}

// opensslByHand has openssl make the request and judge the answer; in between is
// curl with a GET, escaped as RFC 6960 appendix A.1 wants it.
func (q question) opensslByHand(t *testing.T) string {
	request, answer := filepath.Join(t.TempDir(), "request"), filepath.Join(t.TempDir(), "answer")
	said(t, "openssl", "ocsp", "-issuer", q.ca, "-cert", q.certificate, "-no_nonce", "-reqout", request)
	base64 := said(t, "openssl", "base64", "-A", "-in", request)
	path := strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(strings.TrimSpace(base64))
	said(t, tool(t, "curl", "curl"), "--fail", "--silent", "--show-error", "--max-time", "20", "-o", answer, q.url+"/"+path)
	out := said(t, "openssl", "ocsp", "-CAfile", q.root, "-issuer", q.ca, "-cert", q.certificate, "-no_nonce", "-respin", answer)
	if !strings.Contains(out, "Response verify OK") {
		return out
	}
	return verdict(out, ": good\n", ": revoked\n")
}

func (q question) gnutls(t *testing.T, nonce string) string {
	out := said(t, tool(t, "ocsptool", "gnutls-bin"), "--ask="+q.url, "--load-cert", q.certificate, "--load-issuer", q.ca, "--load-trust", q.ca, nonce)
	if !strings.Contains(out, "Verifying OCSP Response: Success.") || strings.Contains(out, "Nonce:") != (nonce == "--nonce") {
		return out
	}
	return verdict(out, "Certificate Status: good", "Certificate Status: revoked")
}

// nss asks through libpkix: fresh information of the leaf by OCSP, or it fails.
func (q question) nss(t *testing.T) string {
	database := "sql:" + t.TempDir()
	certutil, vfychain := tool(t, "certutil", "libnss3-tools"), tool(t, "vfychain", "libnss3-tools")
	said(t, certutil, "-N", "-d", database, "--empty-password")
	said(t, certutil, "-A", "-d", database, "-n", "root", "-t", "CT,C,C", "-a", "-i", q.root)
	said(t, certutil, "-A", "-d", database, "-n", "ca", "-t", ",,", "-a", "-i", q.ca)
	out, code := says(t, vfychain, "-d", database, "-p", "-p", "-u", "1", "-g", "leaf", "-h", "requireFreshInfo", "-m", "ocsp", "-s", "failIfNoInfo", "-a", q.certificate)
	if v := verdict(out, "Chain is good!", "Certificate has been revoked"); (v == "good") == (code == 0) {
		return v
	}
	return out
}

// java asks with PKIXRevocationChecker, of the leaf alone, without fall-back.
func (q question) java(t *testing.T, nonce string) string {
	javac := tool(t, "javac", "openjdk-17-jdk-headless")
	out := said(t, strings.TrimSuffix(javac, "c"), "-Xshare:auto", "-Djdk.security.certpath.ocspNonce="+nonce,
		filepath.Join("testdata", "Judge.java"), q.root, q.ca, q.certificate)
	return verdict(out, ".pem good\n", ".pem revoked KEY_COMPROMISE\n")
}

// python is Debian's own, which has Debian's python3-cryptography.
func (q question) python(t *testing.T) string {
	out, code := says(t, "/usr/bin/python3", filepath.Join("testdata", "judge.py"), q.url, q.ca, q.certificate)
	if code != 0 {
		return "nothing (is python3-cryptography installed? apt-get install python3-cryptography):\n" + out
	}
	return verdict(out, " good None\n", " revoked ReasonFlags.key_compromise\n")
}

// golang is x/crypto/ocsp over GET, each CertID hash that it knows.
func (q question) golang(t *testing.T) string {
	ca, err := devfleet.ReadCertificate(q.ca)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := devfleet.ReadCertificate(q.certificate)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ocsp.CreateRequest(asked, ca, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, body, err := get(t.Context(), q.url, der)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ocsp.ParseResponseForCert(body, asked, ca)
	if err != nil {
		return err.Error()
	}
	return devfleet.StatusName(answer.Status)
}

// A judge that cannot fail proves nothing: nobody listens there.
func TestForeignClientsNeedAnAnswer(t *testing.T) {
	f := shared(t)
	issuer := f.Issuers[0]
	q := question{
		f: f, url: "http://" + freeAddress(t), root: f.Path(issuer.TrustAnchors[0]), ca: f.Path(issuer.Certificate),
		certificate: f.Path(issuer.Leaf.Good.Certificate),
	}
	if out, code := says(t, "openssl", "ocsp", "-CAfile", q.root, "-issuer", q.ca, "-cert", q.certificate, "-url", q.url); code == 0 {
		t.Errorf("openssl: %s", out)
	}
	if out, code := says(t, tool(t, "ocsptool", "gnutls-bin"), "--ask="+q.url, "--load-cert", q.certificate, "--load-issuer", q.ca, "--load-trust", q.ca); code == 0 {
		t.Errorf("ocsptool: %s", out)
	}
}
