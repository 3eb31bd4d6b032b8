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
)

const day = 24 * time.Hour

func (r *rig) setCerts(certs ...db.ResponderCertificate) {
	r.source.edit(func() { r.source.certs = certs })
	for _, c := range certs {
		r.source.change(r.time(), c.IssuerID, c.Serial, r.issued())
	}
}

// signerOf is the fingerprint of the certificate that signed an answer.
func (r *rig) signerOf(a Answer) [32]byte {
	r.tb.Helper()
	wantClass(r.tb, a, Good)
	return sha256.Sum256(r.judge(a).Certificate.Raw)
}

// What a certificate of our key must be. Each case
// alone makes it unusable, and Ready says why.
func TestUnusableCertificates(t *testing.T) {
	r := newRig(t)
	stranger := newCA(t, 1, "root-one", newKey(t))
	renamed := newCA(t, 1, "root-1", r.ca.key)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.keys.keys = append(r.keys.keys, p224)
	from, to := noon.Add(-day), noon.Add(6*day)
	issue := func(edit ...func(*x509.Certificate)) db.ResponderCertificate {
		return r.ca.delegate(t, 0x9001, r.key.Public(), from, to, edit...)
	}
	otherSerial := issue()
	otherSerial.Serial = db.Serial{0x55}
	for name, c := range map[string]struct {
		row  db.ResponderCertificate
		want string
	}{
		"another CA of that name":  {stranger.delegate(t, 0x9001, r.key.Public(), from, to), "pinned key"},
		"that CA by another name":  {renamed.delegate(t, 0x9001, r.key.Public(), from, to), "octet for octet"},
		"no OCSPSigning":           {issue(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "OCSPSigning"},
		"a second purpose":         {issue(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }), "OCSPSigning"},
		"any purpose":              {issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), "OCSPSigning"},
		"a CA":                     {issue(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = true, true }), "CA certificate"},
		"may sign certificates":    {issue(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), "digitalSignature"},
		"no key usage":             {issue(func(c *x509.Certificate) { c.KeyUsage = 0 }), "digitalSignature"},
		"expired":                  {r.ca.delegate(t, 0x9001, r.key.Public(), from, noon), "no current certificate"},
		"not yet valid":            {r.ca.delegate(t, 0x9001, r.key.Public(), noon.Add(time.Second), to), "not yet valid"},
		"not our key":              {r.ca.delegate(t, 0x9001, newKey(t).Public(), from, to), "no current certificate"},
		"an algorithm not offered": {r.ca.delegate(t, 0x9001, p224.Public(), from, to), "P-224"},
		"serial unlike its row":    {otherSerial, "no current certificate"},
		"garbage":                  {db.ResponderCertificate{IssuerID: 1, DER: []byte("x"), Serial: db.Serial{0x55}}, "no current certificate"},
	} {
		r.setCerts(c.row)
		err := r.Refresh(context.Background())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if a := r.ask(revokedSerial); a.Class != Unauthorized {
			t.Errorf("%s: answered %s", name, a.Class)
		}
		if reasons := r.Ready(context.Background()); len(reasons) == 0 || !strings.Contains(reasons[0], c.want) {
			t.Errorf("%s: ready says %q", name, reasons)
		}
		// It comes back by itself when there is a good one.
		r.setCerts(issue())
		r.refreshed()
		wantClass(t, r.ask(goodSerial), Good)
	}
	// A certificate that the copy does not know was never issued.
	r.source.edit(func() { r.source.certs = []db.ResponderCertificate{r.ca.delegate(t, 0x9002, r.key.Public(), from, to)} })
	if err := r.Refresh(context.Background()); err == nil || !strings.Contains(err.Error(), string(refusalAbsent)) {
		t.Errorf("unknown to the copy: %v", err)
	}
}

// A pin is a key under a name: rows that only claim to be it are not served.
func TestPins(t *testing.T) {
	r := newRig(t)
	fingerprint := Pin{Fingerprint: sha256.Sum256(r.ca.cert.Raw)}
	make1 := func(pin Pin) *Responder {
		p, err := New(Config{Pins: []Pin{pin}, Now: r.time}, r.source, r.keys)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	byPrint := make1(fingerprint)
	if err := byPrint.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantClass(t, byPrint.Answer(t.Context(), r.request(goodSerial)), Good)

	lying := r.ca.row(testPolicy())
	lying.Key[0] ^= 1
	r.source.edit(func() { r.source.issuers = []db.Issuer{lying} })
	for name, pin := range map[string]Pin{
		"its key hash lies": fingerprint, "no row for the certificate": {Certificate: r.ca.cert.Raw},
		"no row for the fingerprint": {Fingerprint: [32]byte{1}},
	} {
		p := make1(pin)
		if err := p.Refresh(t.Context()); err == nil {
			t.Errorf("%s: served", name)
		}
		wantClass(t, p.Answer(t.Context(), r.request(goodSerial)), Unauthorized)
	}
}

// One issuer under two pins, by two certificates of its key, is served once.
func TestIssuerPinnedTwice(t *testing.T) {
	r := newRig(t)
	again := newCA(t, 1, "root-one", r.ca.key)
	p, err := New(Config{Pins: []Pin{{Certificate: r.ca.cert.Raw}, {Certificate: again.cert.Raw}}, Now: r.time}, r.source, r.keys)
	if bytes.Equal(r.ca.cert.Raw, again.cert.Raw) || err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "pinned twice") {
		t.Errorf("refresh: %v", err)
	}
	wantClass(t, p.Answer(t.Context(), r.request(goodSerial)), Good)
}

// The copy is seeded anew and numbers its issuers differently: the identity
// follows its row.
func TestIssuerRenumbered(t *testing.T) {
	r := newRig(t)
	r.ca.id = 9
	r.source.edit(func() { r.source.issuers = []db.Issuer{r.ca.row(testPolicy())} })
	cert := r.source.certs[0]
	cert.IssuerID = 9
	r.setCerts(cert)
	r.source.change(noon, 9, serialOf(goodSerial), r.issued())
	r.refreshed()
	wantClass(t, r.ask(goodSerial), Good)
	r.source.change(noon, 9, cert.Serial, r.revokedRow(noon, db.ReasonSuperseded))
	wantClass(t, r.ask(goodSerial), Unauthorized)
}

// An issuer in the copy that is not pinned is not served, whatever the key.
func TestUnpinnedIssuerIsNotServed(t *testing.T) {
	r := newRig(t)
	other := newCA(t, 2, "root-two", newKey(t))
	r.source.edit(func() { r.source.issuers = append(slices.Clone(r.source.issuers), other.row(testPolicy())) })
	r.addCert(other.delegate(t, 0x8001, r.key.Public(), noon.Add(-day), noon.Add(day)))
	r.refreshed()
	wantClass(t, r.Answer(t.Context(), requestFor(t, other, crypto.SHA256, goodSerial)), Unauthorized)
}

// The newest certificate signs, but not in its first hour while an older one
// is good; the swap needs no restart, and no answer fails.
func TestRenewalOverlaps(t *testing.T) {
	r := newRig(t)
	old := r.source.certs[0]
	renewed := r.ca.delegate(t, 0x7002, newKeyFor(r), noon, noon.Add(7*day))
	r.addCert(renewed)
	r.refreshed()
	if r.signerOf(r.ask(goodSerial)) != old.Fingerprint {
		t.Error("a certificate signs in its first minute while an older one is good")
	}
	before := r.ask(goodSerial)
	r.setTime(noon.Add(time.Hour))
	r.source.heartbeat(r.time())
	r.refreshed()
	after := r.ask(goodSerial)
	if r.signerOf(after) != renewed.Fingerprint {
		t.Error("the renewed certificate does not sign after its first hour")
	}
	if bytes.Equal(before.Body, after.Body) {
		t.Error("a signature of the old certificate is served for the new one")
	}
	// Without an older one it signs from its first second.
	r.setTime(noon)
	r.setCerts(renewed)
	r.refreshed()
	if r.signerOf(r.ask(goodSerial)) != renewed.Fingerprint {
		t.Error("the only certificate does not sign")
	}
}

// newKeyFor puts another key into the token.
func newKeyFor(r *rig) crypto.PublicKey {
	key := newKey(r.tb)
	r.keys.set(func() { r.keys.keys = append(r.keys.keys, key) })
	return key.Public()
}

// An old certificate that is about to end gives way to one in its first hour.
func TestYoungCertificateBeforeAnEndingOne(t *testing.T) {
	r := newRig(t)
	young := r.ca.delegate(t, 0x7003, newKeyFor(r), noon.Add(-time.Minute), noon.Add(7*day))
	r.setCerts(r.ca.delegate(t, 0x7002, r.key.Public(), noon.Add(-6*day), noon.Add(time.Hour)), young)
	r.refreshed()
	if r.signerOf(r.ask(goodSerial)) != young.Fingerprint {
		t.Error("the ending one signs")
	}
}

// A renewed certificate whose key signs wrongly is not taken, and the older
// one serves on.
func TestSelfTestBeforeTheSwap(t *testing.T) {
	r := newRig(t)
	broken := &softKeys{wrong: true}
	key := newKey(t)
	broken.keys = []crypto.Signer{key}
	r.Responder.keys = twoRings{r.keys, broken}
	r.addCert(r.ca.delegate(t, 0x7002, key.Public(), noon.Add(-2*time.Hour), noon.Add(7*day)))
	old := r.source.certs[0]
	r.refreshed()
	if r.signerOf(r.ask(goodSerial)) != old.Fingerprint {
		t.Error("a key that signs wrongly was adopted")
	}
	broken.set(func() { broken.wrong = false })
	r.refreshed()
	if r.signerOf(r.ask(goodSerial)) == old.Fingerprint {
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
		wantClass(t, r.ask(goodSerial), Good)
		own := r.source.certs[0].Serial
		r.source.change(noon, 1, own, r.revokedRow(noon, reason))
		for range 2 {
			wantClass(t, r.ask(goodSerial), Unauthorized)
			wantClass(t, r.ask(revokedSerial), Unauthorized)
		}
		if entries, _ := r.cache.stats(); entries != 0 {
			t.Errorf("%s: %d signatures kept", reason, entries)
		}
		if n := strings.Count(r.logs.String(), "stopped itself"); n != 1 {
			t.Errorf("%s: logged %d times", reason, n)
		}
		if reasons := r.Ready(t.Context()); len(reasons) != 1 || !strings.Contains(reasons[0], "stopped itself") {
			t.Errorf("%s: ready says %q", reason, reasons)
		}
		if err := r.Refresh(t.Context()); err == nil {
			t.Errorf("%s: adopted again", reason)
		}
		wantClass(t, r.ask(goodSerial), Unauthorized)
		// Only a hold may be released; keyCompromise is for ever whatever the row
		// says later.
		r.source.change(noon, 1, own, r.issued())
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
	other := newCA(t, 2, "root-two", newKey(t))
	expired := other.delegate(t, 0x8001, r.key.Public(), noon.Add(-30*day), noon.Add(-23*day))
	r.addCert(expired)
	r.refreshed()
	wantClass(t, r.ask(goodSerial), Good)
	r.source.change(noon, 2, expired.Serial, r.revokedRow(noon, db.ReasonSuperseded))
	wantClass(t, r.ask(goodSerial), Good)
	r.source.change(noon, 2, expired.Serial, r.revokedRow(noon, db.ReasonKeyCompromise))
	wantClass(t, r.ask(goodSerial), Unauthorized)
	// A new certificate for the old key is not taken.
	r.addCert(r.ca.delegate(t, 0x7009, r.key.Public(), noon.Add(-2*time.Hour), noon.Add(7*day)))
	if err := r.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), string(refusalCompromised)) {
		t.Errorf("a compromised key was enrolled again: %v", err)
	}
	// A new key is.
	r.addCert(r.ca.delegate(t, 0x700a, newKeyFor(r), noon.Add(-2*time.Hour), noon.Add(7*day)))
	r.refreshed()
	wantClass(t, r.ask(goodSerial), Good)
}

// The signer ends between two refreshes: answers end with it, to the second.
func TestSignerEnds(t *testing.T) {
	r := newRig(t)
	end := noon.Add(6 * day)
	for _, left := range []time.Duration{time.Hour, time.Second} {
		r.setTime(end.Add(-left))
		r.source.heartbeat(r.time())
		a := r.ask(goodSerial)
		wantClass(t, a, Good)
		if !a.NextUpdate.Equal(end) || !r.time().Add(a.MaxAge).Before(end) {
			t.Errorf("%s left: nextUpdate %s, max-age %s", left, a.NextUpdate, a.MaxAge)
		}
	}
	r.setTime(end)
	wantClass(t, r.ask(goodSerial), Unauthorized)
	wantClass(t, r.ask(revokedSerial), Unauthorized)
	// The clock is set back to before its begin.
	r.setTime(noon.Add(-day - time.Second))
	wantClass(t, r.ask(revokedSerial), Unauthorized)
	if err := r.Refresh(t.Context()); err == nil {
		t.Error("adopted before its begin")
	}
}

// In a copy in doubt a missing row of our own is no evidence, a revoked one is.
func TestOwnRowMissingInADoubtfulCopy(t *testing.T) {
	r := newRig(t)
	r.source.edit(func() {
		r.source.horizon.Position++
		r.source.horizon.Doubt = "digest differs from the head"
		delete(r.source.rows, rowKey(1, r.source.certs[0].Serial))
	})
	wantClass(t, r.ask(revokedSerial), Revoked)
	r.refreshed()
	wantClass(t, r.ask(revokedSerial), Revoked)
	r.source.edit(func() { r.source.horizon.Doubt = "" })
	_ = r.Refresh(t.Context())
	wantClass(t, r.ask(revokedSerial), Unauthorized)
}

// A certificate that leaves the rows is withheld from the site, which stops with the
// next request; it comes back with the row.
func TestWithheldCertificateStopsAtOnceAndComesBack(t *testing.T) {
	r := newRig(t)
	rows := r.source.certs
	wantClass(t, r.ask(goodSerial), Good)
	move := func(certs []db.ResponderCertificate, doubt string) {
		r.source.edit(func() {
			r.source.certs = certs
			r.source.horizon.Position++
			r.source.horizon.Doubt = doubt
		})
	}
	move(nil, "divergence") // in a copy that is in doubt a missing row is no evidence
	wantClass(t, r.ask(revokedSerial), Revoked)
	move(nil, "")
	wantClass(t, r.ask(goodSerial), Unauthorized) // no refresh is waited for
	wantClass(t, r.ask(revokedSerial), Unauthorized)
	if err := r.Refresh(t.Context()); err == nil {
		t.Error("no issuer lacks an identity")
	}
	move(rows, "")
	r.refreshed()
	wantClass(t, r.ask(goodSerial), Good)
}

// The copy cannot be asked: no result, the identity stays.
func TestIdentitySurvivesASilentCopy(t *testing.T) {
	r := newRig(t)
	r.source.edit(func() { r.source.fault = errors.New("loading"); r.source.horizon.Position++ })
	r.refreshed()
	wantClass(t, r.ask(goodSerial), TryLater)
	r.source.edit(func() { r.source.fault = nil })
	wantClass(t, r.ask(goodSerial), Good)
}
