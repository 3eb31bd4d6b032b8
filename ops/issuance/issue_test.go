package issuance

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/ops/certprofile"

	"github.com/google/go-cmp/cmp"
)

func p384() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) }
func rsa2048() crypto.Signer {
	return must(rsa.GenerateKey(rand.Reader, 2048))
}

// RFC 6960 section 4.2.2.2, BR section 7.1.2.8: what a responder certificate
// is, with every kind of CA key and site key.
func TestIssuedCertificateIsADelegatedResponders(t *testing.T) {
	cas := map[string]crypto.Signer{"RSA": rsa2048(), "P256": p256(), "P384": p384()}
	algorithms := map[string]x509.SignatureAlgorithm{"RSA": x509.SHA256WithRSA, "P256": x509.ECDSAWithSHA256, "P384": x509.ECDSAWithSHA384}
	for name, caKey := range cas {
		for _, profile := range []db.Profile{db.ProfileRevocable, db.ProfileBR} {
			for kind, key := range map[string]crypto.Signer{"P256": p256(), "P384": p384(), "RSA": rsa2048()} {
				t.Run(name+"/"+string(profile)+"/"+kind, func(t *testing.T) {
					a := newCA(t, caKey, profile, nil)
					a.place("http://ocsp.example/crl/ca")
					c := issue(t, a, request(t, key))
					zlinted(t, c, profile)
					roots := x509.NewCertPool()
					roots.AddCert(a.Certificate)
					if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}); err != nil {
						t.Error(err)
					}
					if c.SignatureAlgorithm != algorithms[name] {
						t.Errorf("signed with %s", c.SignatureAlgorithm)
					}
					if !c.NotBefore.Equal(now.Add(-time.Hour)) || !c.NotAfter.Equal(now.Add(certprofile.DefaultLife)) {
						t.Errorf("valid from %s to %s", c.NotBefore, c.NotAfter)
					}
					openssl(t, a, c, profile)
				})
			}
		}
	}
}

// openssl compares the certificate with what openssl reads in it.
func openssl(t *testing.T, a *Authority, c *x509.Certificate, profile db.Profile) {
	t.Helper()
	dir := t.TempDir()
	ca, cert := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem")
	for path, der := range map[string][]byte{ca: a.Certificate.Raw, cert: c.Raw} {
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "openssl", "verify", "-x509_strict", "-purpose", "ocsphelper", "-CAfile", ca, cert).CombinedOutput(); err != nil {
		t.Errorf("openssl verify: %v: %s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "x509", "-in", cert, "-noout", "-text").CombinedOutput()
	if err != nil {
		t.Fatalf("openssl x509: %v: %s", err, out)
	}
	var got []string
	_, extensions, _ := strings.Cut(string(out), "X509v3 extensions:")
	extensions, _, _ = strings.Cut(extensions, "Signature Algorithm:")
	for line := range strings.Lines(extensions) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, strings.ToUpper(colons(c.SubjectKeyId))) && !strings.Contains(line, strings.ToUpper(colons(a.Certificate.SubjectKeyId))) {
			got = append(got, line)
		}
	}
	want := []string{
		"X509v3 Key Usage: critical", "Digital Signature",
		"X509v3 Extended Key Usage:", "OCSP Signing",
		"X509v3 Subject Key Identifier:", "X509v3 Authority Key Identifier:",
	}
	if profile == db.ProfileBR {
		want = append(want, "OCSP No Check:")
	} else {
		want = append(want, "X509v3 CRL Distribution Points:", "Full Name:", "URI:http://ocsp.example/crl/ca")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("extensions as openssl reads them (-want +got):\n%s", diff)
	}
	subject := "Subject: CN = OCSP responder site-a\n"
	if profile == db.ProfileBR {
		subject = "Subject: C = AT, O = Test, CN = OCSP responder site-a\n"
	}
	if !strings.Contains(string(out), "Version: 3 (0x2)") || !strings.Contains(string(out), subject) {
		t.Errorf("openssl reads:\n%s", out)
	}
}

func colons(raw []byte) string {
	var parts []string
	for _, b := range raw {
		parts = append(parts, db.Serial{b}.String())
	}
	return strings.Join(parts, ":")
}

// BR section 7.1: at least 64 random bits; ours are 127, in 16 octets always.
func TestSerialHasSixteenPositiveOctets(t *testing.T) {
	seen := map[string]bool{}
	for range 5000 {
		serial, err := newSerial(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if len(serial) != 16 || serial[0] == 0 || serial[0] > 0x7f || seen[serial.String()] {
			t.Fatalf("serial %s", serial)
		}
		seen[serial.String()] = true
	}
	zeros := append(make([]byte, 16), bytes.Repeat([]byte{0xff}, 16)...) // first a draw that will not do
	if serial, err := newSerial(bytes.NewReader(zeros)); err != nil || serial.String() != "7f"+strings.Repeat("ff", 15) {
		t.Errorf("serial %s, %v", serial, err)
	}
	if _, err := newSerial(bytes.NewReader(nil)); err == nil {
		t.Error("a serial without randomness")
	}
}

func TestRequestMustProveTheKeyAndNameTheSite(t *testing.T) {
	key := p256()
	good := csr(key, "site-a")
	r, err := ParseRequest(good, "site-a")
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(must(x509.MarshalPKIXPublicKey(key.Public()))); r.KeyHash != want || r.Site != "site-a" {
		t.Errorf("request %+v", r)
	}
	block, _ := pem.Decode(good)
	if _, err := ParseRequest(block.Bytes, "site-a"); err != nil {
		t.Errorf("DER: %v", err)
	}
	stolen := bytes.Clone(block.Bytes)
	stolen[len(stolen)-1] ^= 1
	for name, c := range map[string]struct {
		raw  []byte
		site string
		want string
	}{
		"another site's":      {csr(key, "site-b"), "site-a", `is for "site-b", not for site "site-a"`},
		"without possession":  {stolen, "site-a", "checking the proof of possession"},
		"cut short":           {block.Bytes[:50], "site-a", "reading the certificate request"},
		"a certificate":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}), "site-a", `got PEM type "CERTIFICATE"`},
		"empty":               {nil, "site-a", "reading the certificate request"},
		"a site of no name":   {good, "Site A", "want 1 to 63 lower-case letters"},
		"a site of long name": {csr(key, "site-a"), strings.Repeat("a", 60), "at most 49 characters"},
		"another purpose":     {csrWishing(key, oidKeyPurposes, "300a06082b06010505070301"), "site-a", "asks for another extended key usage"},
		"a CA":                {csrWishing(key, oidBasic, "30030101ff"), "site-a", "asks for the certificate of a CA"},
		"RSA-1024":            {csrWeak(), "site-a", "RSA of 1024 bits: want 2048 or 3072"},
		"P-521":               {csr(must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)), "site-a"), "site-a", "curve P-521: want P-256 or P-384"},
	} {
		if _, err := ParseRequest(c.raw, c.site); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// csrWishing is a request that asks for an extension.
func csrWishing(key crypto.Signer, oid asn1.ObjectIdentifier, value string) []byte {
	wish := pkix.Extension{Id: oid, Value: must(hex.DecodeString(value))}
	return must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "site-a"}, ExtraExtensions: []pkix.Extension{wish},
	}, key))
}

// A request may ask for just what it gets.
func TestRequestMayAskForOCSPSigning(t *testing.T) {
	if _, err := ParseRequest(csrWishing(p256(), oidKeyPurposes, "300a06082b06010505070309"), "site-a"); err != nil {
		t.Error(err)
	}
}

// csrWeak is a request of an RSA key of 1024 bits, as openssl made it: Go makes
// none any more.
func csrWeak() []byte {
	cmd := exec.Command("openssl", "req", "-newkey", "rsa:1024", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=site-a")
	return must(cmd.Output())
}

func TestAuthorityMustBeTheIssuersCAAndValid(t *testing.T) {
	key := p256()
	good := newCA(t, key, db.ProfileRevocable, nil)
	if _, err := NewAuthority(good.Issuer, good.Certificate, key, good.Rules, good.State, now); err != nil {
		t.Fatal(err)
	}
	other := newCA(t, p256(), db.ProfileRevocable, nil)
	noCA := newCA(t, key, db.ProfileRevocable, func(c *x509.Certificate) { c.IsCA = false })
	noSign := newCA(t, key, db.ProfileRevocable, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	for name, c := range map[string]struct {
		issuer db.Issuer
		cert   *x509.Certificate
		key    crypto.Signer
		at     time.Time
		want   string
	}{
		"another issuer": {good.Issuer, other.Certificate, other.key, now, "another name or key than the issuer"},
		"another key":    {good.Issuer, good.Certificate, other.key, now, "is not the certificate's"},
		"too early":      {good.Issuer, good.Certificate, key, good.Certificate.NotBefore.Add(-time.Second), "is valid from"},
		"too late":       {good.Issuer, good.Certificate, key, good.Certificate.NotAfter.Add(time.Second), "ended at"},
		"no CA":          {noCA.Issuer, noCA.Certificate, key, now, "no CA's"},
		"no certSign":    {noSign.Issuer, noSign.Certificate, key, now, "may not sign certificates"},
	} {
		if _, err := NewAuthority(c.issuer, c.cert, c.key, good.Rules, good.State, c.at); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestLifeIsBoundedByTheCAs(t *testing.T) {
	key := p256()
	r := request(t, p256())
	a := newCA(t, key, db.ProfileRevocable, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-time.Minute), now.Add(48*time.Hour) })
	c := issue(t, a, r)
	if !c.NotBefore.Equal(now.Add(-time.Minute)) || !c.NotAfter.Equal(now.Add(48*time.Hour)) {
		t.Errorf("valid from %s to %s", c.NotBefore, c.NotAfter)
	}
	if _, err := a.Template(r, certprofile.DefaultLife, now.Add(47*time.Hour+30*time.Minute), rand.Reader); err == nil {
		t.Error("a certificate of half an hour")
	}
	for _, life := range []time.Duration{0, time.Minute, certprofile.MaxLife + 1} {
		if _, err := a.Template(r, life, now, rand.Reader); err == nil {
			t.Errorf("a life of %s", life)
		}
	}
}

// Every rule of the lint finds its own breach, so that the issuing code cannot
// drift from it unseen.
func TestLintFindsEachBreach(t *testing.T) {
	caKey, key := p256(), p256()
	a := newCA(t, caKey, db.ProfileRevocable, nil)
	other := newCA(t, p256(), db.ProfileRevocable, func(c *x509.Certificate) { c.Subject.CommonName = "another CA" })
	r := request(t, key)
	if faults := certprofile.Lint(issue(t, a, r).Raw, a.Certificate, a.Issuer.Policy, now); faults != nil {
		t.Fatalf("a good one: %q", faults)
	}
	noCheck := pkix.Extension{Id: certprofile.OIDNoCheck, Value: certprofile.NoCheckValue}
	for want, edit := range map[string]func(*x509.Certificate){
		"serial is not of 16 octets and positive": func(c *x509.Certificate) { c.SerialNumber = big.NewInt(77) },
		"subject":                                  func(c *x509.Certificate) { c.Subject.Organization = []string{"x"} },
		"notBefore lies in the future":             func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) },
		"notBefore lies over a day before":         func(c *x509.Certificate) { c.NotBefore = now.Add(-25 * time.Hour) },
		"notAfter lies in the past":                func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) },
		"lives longer than":                        func(c *x509.Certificate) { c.NotAfter = now.Add(certprofile.MaxLife + time.Hour) },
		"outlives the CA":                          func(c *x509.Certificate) { c.NotAfter = a.Certificate.NotAfter.Add(time.Hour) },
		"keyUsage is not exactly digitalSignature": func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment },
		"extKeyUsage is not exactly OCSPSigning":   func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) },
		"has extension 2.5.29.17":                  func(c *x509.Certificate) { c.DNSNames = []string{"x.example"} },
		"has extension 1.3.6.1.5.5.7.1.1":          func(c *x509.Certificate) { c.OCSPServer = []string{"http://x.example/"} },
		"CRL distribution point is not exactly":    func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://x.example/crl"} },
		"has basicConstraints":                     func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = true, true },
		"subjectKeyIdentifier is not":              func(c *x509.Certificate) { c.SubjectKeyId = []byte{1, 2, 3} },
		"has nocheck":                              func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{noCheck} },
		"nocheck is 0400, not NULL": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: certprofile.OIDNoCheck, Value: []byte{4, 0}}}
		},
		"extension 1.3.6.1.5.5.7.48.1.5: critical is": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: certprofile.OIDNoCheck, Critical: true, Value: certprofile.NoCheckValue}}
		},
		"extension 2.5.29.15: critical is false": func(c *x509.Certificate) {
			c.KeyUsage, c.ExtraExtensions = 0, []pkix.Extension{{
				Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 0x80},
			}}
		},
	} {
		template := must(a.Template(r, certprofile.DefaultLife, now, rand.Reader))
		edit(template)
		der := must(x509.CreateCertificate(rand.Reader, template, a.Certificate, key.Public(), caKey))
		expectFault(t, want, certprofile.Lint(der, a.Certificate, a.Issuer.Policy, now))
		if _, err := a.Sign(template, r, now, rand.Reader); err == nil {
			t.Errorf("%s: left all the same", want)
		}
	}
	good := issue(t, a, r)
	br, far := a.Issuer.Policy, a.Issuer.Policy
	br.Profile, far.CRLURL = db.ProfileBR, "http://x.example/crl"
	expectFault(t, "lacks nocheck", certprofile.Lint(good.Raw, a.Certificate, br, now))
	expectFault(t, "CRL distribution point is not exactly", certprofile.Lint(good.Raw, a.Certificate, far, now))
	brCA := newCA(t, caKey, db.ProfileBR, nil)
	long := must(brCA.Template(r, certprofile.DefaultLife, now, rand.Reader))
	long.NotAfter, long.CRLDistributionPoints = now.Add(certprofile.DefaultLife+time.Hour), []string{"http://x.example/crl"}
	faults := certprofile.Lint(must(x509.CreateCertificate(rand.Reader, long, brCA.Certificate, key.Public(), caKey)), brCA.Certificate, br, now)
	expectFault(t, "lives longer than 168h0m0s", faults)
	expectFault(t, "has a CRL distribution point beside nocheck", faults)
	if _, err := brCA.Template(r, certprofile.DefaultLife+time.Second, now, rand.Reader); err == nil || !strings.Contains(err.Error(), "want 1h0m0s to 168h0m0s") {
		t.Errorf("a long life with nocheck: %v", err)
	}
	expectFault(t, "issuer is not, octet for octet", certprofile.Lint(good.Raw, other.Certificate, a.Issuer.Policy, now))
	expectFault(t, "signature is not the CA's", certprofile.Lint(good.Raw, other.Certificate, a.Issuer.Policy, now))
	expectFault(t, "authorityKeyIdentifier is not", certprofile.Lint(good.Raw, other.Certificate, a.Issuer.Policy, now))
	expectFault(t, "is no certificate", certprofile.Lint(good.Raw[:100], a.Certificate, a.Issuer.Policy, now))
	own := must(a.Template(r, certprofile.DefaultLife, now, rand.Reader))
	own.SubjectKeyId = a.Certificate.SubjectKeyId
	expectFault(t, "public key is the CA's own", certprofile.Lint(must(x509.CreateCertificate(rand.Reader, own, a.Certificate, caKey.Public(), caKey)),
		a.Certificate, a.Issuer.Policy, now))
	rsaCA := newCA(t, rsa2048(), db.ProfileRevocable, nil)
	sha384 := must(rsaCA.Template(r, certprofile.DefaultLife, now, rand.Reader))
	sha384.SignatureAlgorithm = x509.SHA256WithRSAPSS // few clients verify it
	expectFault(t, "is signed with SHA256-RSAPSS", certprofile.Lint(must(x509.CreateCertificate(rand.Reader, sha384, rsaCA.Certificate, key.Public(), rsaCA.key)),
		rsaCA.Certificate, a.Issuer.Policy, now))
}

func expectFault(t *testing.T, want string, faults []string) {
	t.Helper()
	if !slices.ContainsFunc(faults, func(fault string) bool { return strings.HasPrefix(fault, want) }) {
		t.Errorf("want fault %q, got %q", want, faults)
	}
}

// RFC 5280 section 4.2.1.1: a CA without its own identifier is named by its key.
func TestAuthorityKeyIdentifierOfACAWithoutOne(t *testing.T) {
	a := newCA(t, p256(), db.ProfileRevocable, nil)
	a.Certificate.SubjectKeyId = nil
	template := must(a.Template(request(t, p256()), certprofile.DefaultLife, now, rand.Reader))
	if want := must(keyID(a.key.Public())); !bytes.Equal(template.AuthorityKeyId, want) {
		t.Errorf("authorityKeyIdentifier %x, want %x", template.AuthorityKeyId, want)
	}
}
