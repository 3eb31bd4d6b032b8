package issuance

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/certprofile"
)

const ahead = 60 * 24 * time.Hour

// place has the CA's CRL lie there, as the master and its own rules say.
func (a *Authority) place(url string) { a.Issuer.Policy.CRLURL, a.Rules.CRLURL = url, url }

// series is a bundle of n certificates for a proof of site-a's key.
func series(t *testing.T, a *Authority, proof []byte, serials []db.Serial) *Bundle {
	t.Helper()
	var list []BundledCert
	for _, serial := range serials {
		list = append(list, BundledCert{
			Site: "site-a", Serial: serial.String(), NotBefore: now.Add(-backdate), NotAfter: now.Add(certprofile.DefaultLife), Proof: string(asPEM(proof)),
		})
	}
	b := a.Bundle(list, Denied{})
	return &b
}

func hashOf(key crypto.Signer) [32]byte {
	return sha256.Sum256(must(x509.MarshalPKIXPublicKey(key.Public())))
}

// Who can write the bundle asks for ten certificates that no client checks (nocheck),
// for the banned key of a revoked site: each thing that makes that up is refused alone,
// and nothing is signed.
func TestATamperedBundleWinsNothing(t *testing.T) {
	banned := p256()
	for name, one := range map[string]struct {
		tamper func(*Authority, *Bundle)
		want   string
	}{
		"nocheck":                  {func(_ *Authority, b *Bundle) { b.Profile = db.ProfileBR }, `its profile at the master is "br"`},
		"another place of the CRL": {func(_ *Authority, b *Bundle) { b.CRLURL = "http://thief.example/crl" }, "its crl_url at the master"},
		"a banned key": {func(a *Authority, b *Bundle) {
			told := a.Bundle(nil, Denied{Keys: [][32]byte{hashOf(banned)}}) // an earlier bundle's
			if err := a.SignBundle(&told, ahead, now, rand.Reader); err != nil {
				t.Fatal(err)
			}
			b.DeniedKeys = nil
		}, "is on this CA's deny list"},
		"a long life": {func(_ *Authority, b *Bundle) {
			b.Certificates[0].NotAfter = now.Add(30 * 24 * time.Hour)
		}, "this CA allows 168h0m0s at most"},
		"serials of its own": {func(_ *Authority, b *Bundle) {
			for i := range b.Certificates {
				b.Certificates[i].Serial = must(newSerial(rand.Reader)).String()
			}
		}, "was not made by this CA"},
		"a serial twice": {func(_ *Authority, b *Bundle) { b.Certificates[9].Serial = b.Certificates[8].Serial }, "was signed before"},
		"an old request": {func(a *Authority, b *Bundle) {
			first := must(a.State.makeSerials(1, rand.Reader))
			was := series(t, a, []byte(b.Certificates[0].Proof), first)
			long := now.Add(-certprofile.DefaultLife - time.Minute)
			was.Certificates[0].NotBefore, was.Certificates[0].NotAfter = long.Add(-backdate), long.Add(certprofile.DefaultLife)
			if err := a.SignBundle(was, ahead, long, rand.Reader); err != nil {
				t.Fatal(err)
			}
		}, "was first shown at"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newCA(t, p256(), db.ProfileRevocable, nil)
			a.Rules.MaxLife = certprofile.DefaultLife
			b := series(t, a, csr(banned, "site-a"), must(a.State.makeSerials(10, rand.Reader)))
			one.tamper(a, b)
			before := must(os.ReadFile(a.State.file("ledger")))
			if _, err := a.CheckBundle(b, ahead, now); err == nil || !strings.Contains(err.Error(), one.want) {
				t.Errorf("the plan: %v, want %q", err, one.want)
			}
			if err := a.SignBundle(b, ahead, now, rand.Reader); err == nil || !strings.Contains(err.Error(), one.want) {
				t.Errorf("%v, want %q", err, one.want)
			}
			for _, c := range b.Certificates {
				if c.Certificate != "" {
					t.Errorf("serial %s was signed", c.Serial)
				}
			}
			if after := must(os.ReadFile(a.State.file("ledger"))); string(after) != string(before) {
				t.Errorf("it was remembered: %s", after[len(before):])
			}
		})
	}
}

// Who can write to the master does not choose the form of a certificate either where the
// CA's key is beside it: not in the plan, not by a renewal, not with the signature.
func TestTheMastersPolicyIsNotTheCAs(t *testing.T) {
	for want, edit := range map[string]func(*db.Policy){
		`its profile at the master is "br", in the CA's own configuration "revocable"`:               func(p *db.Policy) { p.Profile = db.ProfileBR },
		`its crl_url at the master is "http://ca.example/all.crl", in the CA's own configuration ""`: func(p *db.Policy) { p.CRLURL = "http://ca.example/all.crl" },
	} {
		a := newCA(t, p256(), db.ProfileRevocable, nil)
		row := rowAt(a, "site-a", p256(), 100*time.Hour, certprofile.DefaultLife)
		edit(&a.Issuer.Policy)
		r := request(t, p256())
		if _, err := a.Rehearse(r, certprofile.DefaultLife, now, rand.Reader); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the plan: %v, want %q", err, want)
		}
		if list := Renewals([]masterdb.Responder{site("site-a", db.ResponderActive, row)}, []*Authority{a}, now); len(list) != 1 || !strings.HasPrefix(list[0].Refused, want) {
			t.Errorf("the renewal: %d, want %q", len(list), want)
		}
		if _, err := a.Sign(must(a.Template(r, certprofile.DefaultLife, now, rand.Reader)), r, now, rand.Reader); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the signature: %v, want %q", err, want)
		}
	}
}

// Each serial is signed once, also by another process with the same memory; a bundle
// adds to the deny list even if nothing else of it is done, and takes nothing off.
func TestEachSerialIsSignedOnce(t *testing.T) {
	a := newCA(t, p256(), db.ProfileRevocable, nil)
	key := p256()
	b := series(t, a, csr(key, "site-a"), must(a.State.makeSerials(2, rand.Reader)))
	if err := a.SignBundle(b, ahead, now, rand.Reader); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(b.Certificates[0].Certificate))
	last := block.Bytes
	again := *a
	again.State = OpenState(a.State.dir)
	if err := again.SignBundle(b, ahead, now, rand.Reader); err == nil || !strings.Contains(err.Error(), "was signed before") {
		t.Errorf("signed twice: %v", err)
	}
	// The last certificate proves the key, until it is denied.
	next := series(t, a, last, must(a.State.makeSerials(1, rand.Reader)))
	if err := a.SignBundle(next, ahead, now, rand.Reader); err != nil {
		t.Fatal(err)
	}
	next = series(t, a, last, must(a.State.makeSerials(1, rand.Reader)))
	next.DeniedCertificates = []string{b.Certificates[0].Serial}
	plan, err := a.CheckBundle(&Bundle{Form: next.Form, IssuerKey: next.IssuerKey, Profile: next.Profile, DeniedCertificates: next.DeniedCertificates}, ahead, now)
	if err != nil || len(plan.Denied.Certificates) != 1 {
		t.Errorf("the plan does not say what is denied: %+v, %v", plan, err)
	}
	for range 2 {
		if err := a.SignBundle(next, ahead, now, rand.Reader); err == nil || !strings.Contains(err.Error(), "by which site \"site-a\" proves its key, is on this CA's deny list") {
			t.Errorf("a denied certificate: %v", err)
		}
		next.DeniedCertificates = nil // too late
	}
}

// What the CA remembers is refused if others could have changed it, or if a line is
// none; a line that was broken off never was.
func TestTheCAsMemory(t *testing.T) {
	a := newCA(t, p256(), db.ProfileRevocable, nil)
	serials := must(a.State.makeSerials(2, rand.Reader))
	path := a.State.file("ledger")
	if info := must(os.Stat(path)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s", info.Mode())
	}
	whole := must(os.ReadFile(path))
	b := series(t, a, csr(p256(), "site-a"), serials)
	for text, want := range map[string]string{
		string(whole) + "signed " + serials[0].String() + " 2026":   "",
		string(whole) + "forgotten " + serials[0].String() + "\n":   "ledger:3: \"forgotten",
		string(whole) + "signed " + serials[0].String() + " x y\n":  "ledger:3: ",
		string(whole) + "deny-key 00\n":                             "want a SHA-256 in hex",
		string(whole) + "signed " + serials[0].String() + " 2026\n": "want made, signed, seen",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := a.CheckBundle(b, ahead, now); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text[len(whole):], err, want)
		}
	}
	if err := os.WriteFile(path, append(whole, "made 1"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.SignBundle(b, ahead, now, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if text := string(must(os.ReadFile(path))); !strings.HasPrefix(text, string(whole)+"signed ") {
		t.Errorf("the ledger: %q", text)
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // that is the fault
		t.Fatal(err)
	}
	if _, err := a.CheckBundle(b, ahead, now); err == nil || !strings.Contains(err.Error(), "can be written by others") {
		t.Errorf("writable by others: %v", err)
	}
}

// What a CRL named for ever stays on the next ones until its certificate has ended,
// whatever the master's rows say; a hold may go, and may become permanent.
func TestACRLTakesNothingBack(t *testing.T) {
	a := newCA(t, p256(), db.ProfileRevocable, nil)
	a.place(crlPlace)
	ends := now.Add(certprofile.DefaultLife)
	entry := func(n byte, reason db.Reason, end time.Time) masterdb.CRLEntry {
		return masterdb.CRLEntry{Serial: db.Serial{n}, Status: db.Status{Revoked: true, RevokedAt: now.Add(-time.Hour), Reason: reason, NotAfter: end}}
	}
	number := int64(0)
	sign := func(at time.Time, entries ...masterdb.CRLEntry) error {
		number++
		_, err := a.signCRLs([]CRLContent{{number, at, at.Add(CRLLife), entries, crlPlace}}, rand.Reader)
		return err
	}
	gone, held, soon := entry(1, db.ReasonKeyCompromise, ends), entry(2, db.ReasonCertificateHold, ends), entry(3, db.ReasonNone, now.Add(time.Hour))
	if err := sign(now, gone, held, soon); err != nil {
		t.Fatal(err)
	}
	for name, entries := range map[string][]masterdb.CRLEntry{
		"empty":                    {},
		"one is missing":           {held, soon},
		"one only on hold":         {entry(1, db.ReasonCertificateHold, ends), held, soon},
		"another serial":           {entry(4, db.ReasonKeyCompromise, ends), held, soon},
		"one that ended elsewhere": {held, soon},
	} {
		if err := sign(now.Add(time.Minute), entries...); err == nil || !strings.Contains(err.Error(), "certificate 01, revoked for ever in the last CRL (number 1)") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The row's end was moved: what the CA was first told counts.
	if err := sign(now.Add(time.Minute), entry(1, db.ReasonKeyCompromise, now.Add(time.Minute)), soon); err != nil {
		t.Fatalf("a hold may go: %v", err)
	}
	if err := sign(now.Add(2*time.Hour), gone); err != nil {
		t.Fatalf("what has ended may go: %v", err)
	}
	if err := sign(now.Add(3 * time.Hour)); err == nil {
		t.Error("an end that was moved back let a revocation go")
	}
	if err := sign(ends.Add(time.Second)); err != nil {
		t.Errorf("all have ended: %v", err)
	}
	// Another scope is another list; only the configuration says which.
	if err := sign(ends, gone); err != nil {
		t.Fatal(err)
	}
	full := CRLContent{number, now, now.Add(CRLLife), nil, ""}
	if _, err := a.signCRLs([]CRLContent{full}, rand.Reader); err == nil || !strings.Contains(err.Error(), "this CA's configuration says") {
		t.Errorf("a full one: %v", err)
	}
	a.Rules.AllCertificates = true
	if _, err := a.signCRLs([]CRLContent{full}, rand.Reader); err != nil {
		t.Errorf("a full one by configuration: %v", err)
	}
	a.Rules.AllCertificates, a.Rules.Forbidden = false, []string{"HTTP://ocsp.example:80/crl/ca"}
	if err := sign(ends.Add(time.Hour), gone); err == nil || !strings.Contains(err.Error(), "stands in forbidden_urls") {
		t.Errorf("a forbidden place: %v", err)
	}
}

// The attack that the rules are for: an empty CRL at the place of the CA's own one
// takes the revocation of a customer's certificate back. openssl believes it; so this
// CA must never sign it.
func TestOpensslBelievesAnEmptyCRLAtAnothersPlace(t *testing.T) {
	a := newCA(t, p256(), db.ProfileRevocable, nil)
	key := p256()
	const allURL = "http://ca.example/all.crl"
	leaf := &x509.Certificate{
		SerialNumber: must(x509.ParseCertificate(a.Certificate.Raw)).SerialNumber, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certprofile.DefaultLife),
		CRLDistributionPoints: []string{allURL}, AuthorityKeyId: must(certprofile.AuthorityKeyID(a.Certificate)),
	}
	leaf.Subject.CommonName = "customer"
	der := must(x509.CreateCertificate(rand.Reader, leaf, a.Certificate, key.Public(), a.key))
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	verify := func(crl []byte) string {
		out, _ := exec.CommandContext(t.Context(), "openssl", "verify", "-crl_check", "-CRLfile", write("crl.pem", "X509 CRL", crl),
			"-CAfile", write("ca.pem", "CERTIFICATE", a.Certificate.Raw), write("leaf.pem", "CERTIFICATE", der)).CombinedOutput()
		return string(out)
	}
	empty := CRLContent{1, now.Add(-time.Minute), now.Add(CRLLife), nil, allURL}
	if said := verify(must(a.SignCRL(empty, rand.Reader))); !strings.Contains(said, "leaf.pem: OK") {
		t.Fatalf("the attack is none any more: %s", said)
	}
	a.place(crlPlace)
	if _, err := a.signCRLs([]CRLContent{empty}, rand.Reader); err == nil {
		t.Error("the CA signs for a place that its configuration does not name")
	}
	empty.URL = crlPlace
	if said := verify(must(a.signCRLs([]CRLContent{empty}, rand.Reader))[0]); strings.Contains(said, "leaf.pem: OK") {
		t.Errorf("openssl takes the CRL of the responders for all: %s", said)
	}
}
