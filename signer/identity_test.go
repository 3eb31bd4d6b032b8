package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
)

const day = 24 * time.Hour

func (r *rig) setCerts(certs ...db.ResponderCertificate) {
	r.Copy.Edit(func() { r.Copy.Certs = certs })
	for _, c := range certs {
		r.Copy.Change(r.Time(), c.IssuerID, c.Serial, r.Issued())
	}
}

// signerOf is the fingerprint of the certificate that signed an answer.
func (r *rig) signerOf(a Answer) [32]byte {
	r.TB.Helper()
	wantClass(r.TB, a, Good)
	return sha256.Sum256(r.judge(a).Certificate.Raw)
}

// What a certificate of our key must be. Each case
// alone makes it unusable, and Ready says why.
func TestUnusableCertificates(t *testing.T) {
	r := newRig(t)
	stranger := signertest.NewCA(t, 1, "root-one", signertest.NewKey(t))
	renamed := signertest.NewCA(t, 1, "root-1", r.CA.Key)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.Keys.Keys = append(r.Keys.Keys, p224)
	from, to := signertest.Noon.Add(-day), signertest.Noon.Add(6*day)
	issue := func(edit ...func(*x509.Certificate)) db.ResponderCertificate {
		return r.CA.Delegate(t, 0x9001, r.Key.Public(), from, to, edit...)
	}
	otherSerial := issue()
	otherSerial.Serial = db.Serial{0x55}
	for name, c := range map[string]struct {
		row  db.ResponderCertificate
		want string
	}{
		"another CA of that name":  {stranger.Delegate(t, 0x9001, r.Key.Public(), from, to), "pinned key"},
		"that CA by another name":  {renamed.Delegate(t, 0x9001, r.Key.Public(), from, to), "octet for octet"},
		"no OCSPSigning":           {issue(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "OCSPSigning"},
		"a second purpose":         {issue(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }), "OCSPSigning"},
		"any purpose":              {issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), "OCSPSigning"},
		"a CA":                     {issue(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = true, true }), "CA certificate"},
		"may sign certificates":    {issue(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), "digitalSignature"},
		"no key usage":             {issue(func(c *x509.Certificate) { c.KeyUsage = 0 }), "digitalSignature"},
		"expired":                  {r.CA.Delegate(t, 0x9001, r.Key.Public(), from, signertest.Noon), "no current certificate"},
		"not yet valid":            {r.CA.Delegate(t, 0x9001, r.Key.Public(), signertest.Noon.Add(time.Second), to), "not yet valid"},
		"not our key":              {r.CA.Delegate(t, 0x9001, signertest.NewKey(t).Public(), from, to), "no current certificate"},
		"an algorithm not offered": {r.CA.Delegate(t, 0x9001, p224.Public(), from, to), "P-224"},
		"serial unlike its row":    {otherSerial, "no current certificate"},
		"garbage":                  {db.ResponderCertificate{IssuerID: 1, DER: []byte("x"), Serial: db.Serial{0x55}}, "no current certificate"},
	} {
		r.setCerts(c.row)
		err := r.Refresh(context.Background())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if a := r.ask(signertest.RevokedSerial); a.Class != Unauthorized {
			t.Errorf("%s: answered %s", name, a.Class)
		}
		if reasons := r.Ready(context.Background()); len(reasons) == 0 || !strings.Contains(reasons[0], c.want) {
			t.Errorf("%s: ready says %q", name, reasons)
		}
		// It comes back by itself when there is a good one.
		r.setCerts(issue())
		r.refreshed()
		wantClass(t, r.ask(signertest.GoodSerial), Good)
	}
	// A certificate that the copy does not know was never issued.
	r.Copy.Edit(func() { r.Copy.Certs = []db.ResponderCertificate{r.CA.Delegate(t, 0x9002, r.Key.Public(), from, to)} })
	if err := r.Refresh(context.Background()); err == nil || !strings.Contains(err.Error(), string(refusalAbsent)) {
		t.Errorf("unknown to the copy: %v", err)
	}
}

// A pin is a key under a name: rows that only claim to be it are not served.
func TestPins(t *testing.T) {
	r := newRig(t)
	fingerprint := Pin{Fingerprint: sha256.Sum256(r.CA.Cert.Raw)}
	make1 := func(pin Pin) *Responder {
		p, err := New(Config{Pins: []Pin{pin}, Now: r.Time}, r.Copy, r.Keys)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	byPrint := make1(fingerprint)
	if err := byPrint.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantClass(t, byPrint.Answer(t.Context(), r.Request(signertest.GoodSerial)), Good)

	lying := r.CA.Row(signertest.Policy())
	lying.Key[0] ^= 1
	r.Copy.Edit(func() { r.Copy.IssuerRows = []db.Issuer{lying} })
	for name, pin := range map[string]Pin{
		"its key hash lies": fingerprint, "no row for the certificate": {Certificate: r.CA.Cert.Raw},
		"no row for the fingerprint": {Fingerprint: [32]byte{1}},
	} {
		p := make1(pin)
		if err := p.Refresh(t.Context()); err == nil {
			t.Errorf("%s: served", name)
		}
		wantClass(t, p.Answer(t.Context(), r.Request(signertest.GoodSerial)), Unauthorized)
	}
}

// One issuer under two pins, by two certificates of its key, is served once.
func TestIssuerPinnedTwice(t *testing.T) {
	r := newRig(t)
	again := signertest.NewCA(t, 1, "root-one", r.CA.Key)
	p, err := New(Config{Pins: []Pin{{Certificate: r.CA.Cert.Raw}, {Certificate: again.Cert.Raw}}, Now: r.Time}, r.Copy, r.Keys)
	if bytes.Equal(r.CA.Cert.Raw, again.Cert.Raw) || err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "pinned twice") {
		t.Errorf("refresh: %v", err)
	}
	wantClass(t, p.Answer(t.Context(), r.Request(signertest.GoodSerial)), Good)
}

// The copy is seeded anew and numbers its issuers differently: the identity
// follows its row.
func TestIssuerRenumbered(t *testing.T) {
	r := newRig(t)
	r.CA.ID = 9
	r.Copy.Edit(func() { r.Copy.IssuerRows = []db.Issuer{r.CA.Row(signertest.Policy())} })
	cert := r.Copy.Certs[0]
	cert.IssuerID = 9
	r.setCerts(cert)
	r.Copy.Change(signertest.Noon, 9, signertest.Serial(signertest.GoodSerial), r.Issued())
	r.refreshed()
	wantClass(t, r.ask(signertest.GoodSerial), Good)
	r.Copy.Change(signertest.Noon, 9, cert.Serial, r.RevokedRow(signertest.Noon, db.ReasonSuperseded))
	wantClass(t, r.ask(signertest.GoodSerial), Unauthorized)
}

// An issuer in the copy that is not pinned is not served, whatever the key.
func TestUnpinnedIssuerIsNotServed(t *testing.T) {
	r := newRig(t)
	other := signertest.NewCA(t, 2, "root-two", signertest.NewKey(t))
	r.Copy.Edit(func() {
		r.Copy.IssuerRows = append(slices.Clone(r.Copy.IssuerRows), other.Row(signertest.Policy()))
	})
	r.AddCert(other.Delegate(t, 0x8001, r.Key.Public(), signertest.Noon.Add(-day), signertest.Noon.Add(day)))
	r.refreshed()
	wantClass(t, r.Answer(t.Context(), signertest.Request(t, other, crypto.SHA256, signertest.GoodSerial)), Unauthorized)
}

// The newest certificate signs, but not in its first hour while an older one
// is good; the swap needs no restart, and no answer fails.
func TestRenewalOverlaps(t *testing.T) {
	r := newRig(t)
	old := r.Copy.Certs[0]
	renewed := r.CA.Delegate(t, 0x7002, newKeyFor(r), signertest.Noon, signertest.Noon.Add(7*day))
	r.AddCert(renewed)
	r.refreshed()
	if r.signerOf(r.ask(signertest.GoodSerial)) != old.Fingerprint {
		t.Error("a certificate signs in its first minute while an older one is good")
	}
	before := r.ask(signertest.GoodSerial)
	r.SetTime(signertest.Noon.Add(time.Hour))
	r.Copy.Heartbeat(r.Time())
	r.refreshed()
	after := r.ask(signertest.GoodSerial)
	if r.signerOf(after) != renewed.Fingerprint {
		t.Error("the renewed certificate does not sign after its first hour")
	}
	if bytes.Equal(before.Body, after.Body) {
		t.Error("a signature of the old certificate is served for the new one")
	}
	// Without an older one it signs from its first second.
	r.SetTime(signertest.Noon)
	r.setCerts(renewed)
	r.refreshed()
	if r.signerOf(r.ask(signertest.GoodSerial)) != renewed.Fingerprint {
		t.Error("the only certificate does not sign")
	}
}

// newKeyFor puts another key into the token.
func newKeyFor(r *rig) crypto.PublicKey {
	key := signertest.NewKey(r.TB)
	r.Keys.Set(func() { r.Keys.Keys = append(r.Keys.Keys, key) })
	return key.Public()
}

// An old certificate that is about to end gives way to one in its first hour.
func TestYoungCertificateBeforeAnEndingOne(t *testing.T) {
	r := newRig(t)
	young := r.CA.Delegate(t, 0x7003, newKeyFor(r), signertest.Noon.Add(-time.Minute), signertest.Noon.Add(7*day))
	r.setCerts(r.CA.Delegate(t, 0x7002, r.Key.Public(), signertest.Noon.Add(-6*day), signertest.Noon.Add(time.Hour)), young)
	r.refreshed()
	if r.signerOf(r.ask(signertest.GoodSerial)) != young.Fingerprint {
		t.Error("the ending one signs")
	}
}

// A renewed certificate whose key signs wrongly is not taken, and the older
// one serves on.
func TestSelfTestBeforeTheSwap(t *testing.T) {
	r := newRig(t)
	broken := &signertest.Keyring{Wrong: true}
	key := signertest.NewKey(t)
	broken.Keys = []crypto.Signer{key}
	r.Responder.keys = twoRings{r.Keys, broken}
	r.AddCert(r.CA.Delegate(t, 0x7002, key.Public(), signertest.Noon.Add(-2*time.Hour), signertest.Noon.Add(7*day)))
	old := r.Copy.Certs[0]
	r.refreshed()
	if r.signerOf(r.ask(signertest.GoodSerial)) != old.Fingerprint {
		t.Error("a key that signs wrongly was adopted")
	}
	broken.Set(func() { broken.Wrong = false })
	r.refreshed()
	if r.signerOf(r.ask(signertest.GoodSerial)) == old.Fingerprint {
		t.Error("the key that signs rightly now was not adopted")
	}
}

type twoRings [2]Keyring

func (k twoRings) Signer(pub crypto.PublicKey) (crypto.Signer, error) {
	if key, err := k[0].Signer(pub); err == nil {
		return key, nil
	}
	return k[1].Signer(pub)
}

// The site sees its own certificate revoked and stops with the next request,
// before any refresh; the cache goes with it. Others' answers are not its affair.
func TestOwnCertificateRevoked(t *testing.T) {
	for reason, back := range map[db.Reason]bool{
		db.ReasonSuperseded: false, db.ReasonKeyCompromise: false, db.ReasonNone: false, db.ReasonCertificateHold: true,
	} {
		r := newRig(t)
		wantClass(t, r.ask(signertest.GoodSerial), Good)
		own := r.Copy.Certs[0].Serial
		r.Copy.Change(signertest.Noon, 1, own, r.RevokedRow(signertest.Noon, reason))
		for range 2 {
			wantClass(t, r.ask(signertest.GoodSerial), Unauthorized)
			wantClass(t, r.ask(signertest.RevokedSerial), Unauthorized)
		}
		if entries, _ := r.cache.stats(); entries != 0 {
			t.Errorf("%s: %d signatures kept", reason, entries)
		}
		if n := strings.Count(r.Logs.String(), "stopped itself"); n != 1 {
			t.Errorf("%s: logged %d times", reason, n)
		}
		if reasons := r.Ready(t.Context()); len(reasons) != 1 || !strings.Contains(reasons[0], "stopped itself") {
			t.Errorf("%s: ready says %q", reason, reasons)
		}
		if err := r.Refresh(t.Context()); err == nil {
			t.Errorf("%s: adopted again", reason)
		}
		wantClass(t, r.ask(signertest.GoodSerial), Unauthorized)
		// Only a hold may be released; keyCompromise is for ever whatever the row
		// says later.
		r.Copy.Change(signertest.Noon, 1, own, r.Issued())
		err := r.Refresh(t.Context())
		if (err == nil) != (back || reason != db.ReasonKeyCompromise) {
			t.Errorf("%s taken back: %v", reason, err)
		}
	}
}

// keyCompromise on any row of a key stops every identity with it: another
// certificate, of another issuer, long expired.
func TestKeyCompromiseStopsEveryIdentityOfTheKey(t *testing.T) {
	r := newRig(t)
	other := signertest.NewCA(t, 2, "root-two", signertest.NewKey(t))
	expired := other.Delegate(t, 0x8001, r.Key.Public(), signertest.Noon.Add(-30*day), signertest.Noon.Add(-23*day))
	r.AddCert(expired)
	r.refreshed()
	wantClass(t, r.ask(signertest.GoodSerial), Good)
	r.Copy.Change(signertest.Noon, 2, expired.Serial, r.RevokedRow(signertest.Noon, db.ReasonSuperseded))
	wantClass(t, r.ask(signertest.GoodSerial), Good)
	r.Copy.Change(signertest.Noon, 2, expired.Serial, r.RevokedRow(signertest.Noon, db.ReasonKeyCompromise))
	wantClass(t, r.ask(signertest.GoodSerial), Unauthorized)
	// A new certificate for the old key is not taken.
	r.AddCert(r.CA.Delegate(t, 0x7009, r.Key.Public(), signertest.Noon.Add(-2*time.Hour), signertest.Noon.Add(7*day)))
	if err := r.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), string(refusalCompromised)) {
		t.Errorf("a compromised key was enrolled again: %v", err)
	}
	// A new key is.
	r.AddCert(r.CA.Delegate(t, 0x700a, newKeyFor(r), signertest.Noon.Add(-2*time.Hour), signertest.Noon.Add(7*day)))
	r.refreshed()
	wantClass(t, r.ask(signertest.GoodSerial), Good)
}

// The signer ends between two refreshes: answers end with it, to the second.
func TestSignerEnds(t *testing.T) {
	r := newRig(t)
	end := signertest.Noon.Add(6 * day)
	for _, left := range []time.Duration{time.Hour, time.Second} {
		r.SetTime(end.Add(-left))
		r.Copy.Heartbeat(r.Time())
		a := r.ask(signertest.GoodSerial)
		wantClass(t, a, Good)
		if !a.NextUpdate.Equal(end) || !r.Time().Add(a.MaxAge).Before(end) {
			t.Errorf("%s left: nextUpdate %s, max-age %s", left, a.NextUpdate, a.MaxAge)
		}
	}
	r.SetTime(end)
	wantClass(t, r.ask(signertest.GoodSerial), Unauthorized)
	wantClass(t, r.ask(signertest.RevokedSerial), Unauthorized)
	// The clock is set back to before its begin.
	r.SetTime(signertest.Noon.Add(-day - time.Second))
	wantClass(t, r.ask(signertest.RevokedSerial), Unauthorized)
	if err := r.Refresh(t.Context()); err == nil {
		t.Error("adopted before its begin")
	}
}

// In a copy in doubt a missing row of our own is no evidence, a revoked one is.
func TestOwnRowMissingInADoubtfulCopy(t *testing.T) {
	r := newRig(t)
	r.Copy.Edit(func() {
		r.Copy.At.Position++
		r.Copy.At.Doubt = "digest differs from the head"
		delete(r.Copy.Rows, signertest.RowKey(1, r.Copy.Certs[0].Serial))
	})
	wantClass(t, r.ask(signertest.RevokedSerial), Revoked)
	r.refreshed()
	wantClass(t, r.ask(signertest.RevokedSerial), Revoked)
	r.Copy.Edit(func() { r.Copy.At.Doubt = "" })
	_ = r.Refresh(t.Context())
	wantClass(t, r.ask(signertest.RevokedSerial), Unauthorized)
}

// A certificate that leaves the rows is withheld from the site, which stops with the
// next request; it comes back with the row.
func TestWithheldCertificateStopsAtOnceAndComesBack(t *testing.T) {
	r := newRig(t)
	rows := r.Copy.Certs
	wantClass(t, r.ask(signertest.GoodSerial), Good)
	move := func(certs []db.ResponderCertificate, doubt string) {
		r.Copy.Edit(func() {
			r.Copy.Certs = certs
			r.Copy.At.Position++
			r.Copy.At.Doubt = doubt
		})
	}
	move(nil, "divergence") // in a copy that is in doubt a missing row is no evidence
	wantClass(t, r.ask(signertest.RevokedSerial), Revoked)
	move(nil, "")
	wantClass(t, r.ask(signertest.GoodSerial), Unauthorized) // no refresh is waited for
	wantClass(t, r.ask(signertest.RevokedSerial), Unauthorized)
	if err := r.Refresh(t.Context()); err == nil {
		t.Error("no issuer lacks an identity")
	}
	move(rows, "")
	r.refreshed()
	wantClass(t, r.ask(signertest.GoodSerial), Good)
}

// The copy cannot be asked: no result, the identity stays.
func TestIdentitySurvivesASilentCopy(t *testing.T) {
	r := newRig(t)
	r.Copy.Edit(func() { r.Copy.Fault = errors.New("loading"); r.Copy.At.Position++ })
	r.refreshed()
	wantClass(t, r.ask(signertest.GoodSerial), TryLater)
	r.Copy.Edit(func() { r.Copy.Fault = nil })
	wantClass(t, r.ask(signertest.GoodSerial), Good)
}
