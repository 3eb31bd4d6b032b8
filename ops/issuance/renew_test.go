package issuance

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/certprofile"
)

// rowAt is the row of a certificate that was issued so long ago.
func rowAt(a *Authority, site string, key crypto.Signer, ago, life time.Duration) masterdb.RosterCertificate {
	r := &Request{Site: site, PublicKey: key.Public(), KeyHash: sha256.Sum256(must(x509.MarshalPKIXPublicKey(key.Public())))}
	at := now.Add(-ago)
	template := must(a.Template(r, life, at, rand.Reader))
	der := must(a.Sign(template, r, at, rand.Reader))
	return masterdb.RosterCertificate{
		ResponderCertificate: db.ResponderCertificate{
			Fingerprint: sha256.Sum256(der), IssuerID: a.Issuer.ID, Serial: db.SerialFromMagnitude(template.SerialNumber.Bytes(), false),
			Site: site, KeyHash: r.KeyHash, DER: der,
		},
		Status: db.Status{NotAfter: template.NotAfter, Reason: db.ReasonNone},
	}
}

func site(name string, state db.ResponderState, rows ...masterdb.RosterCertificate) masterdb.Responder {
	return masterdb.Responder{Name: name, State: state, Certificates: rows}
}

func TestRenewalAtHalfOfTheLifeOfTheNewest(t *testing.T) {
	a := newCA(t, p256(), db.ProfileRevocable, func(c *x509.Certificate) { c.NotBefore = now.Add(-1000 * time.Hour) })
	old, key, rsaKey := p256(), p256(), rsa2048()
	list := Renewals([]masterdb.Responder{
		site("site-a", db.ResponderActive,
			rowAt(a, "site-a", old, 150*time.Hour, certprofile.DefaultLife), // the key before: renewed no more
			rowAt(a, "site-a", key, 80*time.Hour, certprofile.DefaultLife),
			rowAt(a, "site-a", rsaKey, 90*time.Hour, certprofile.DefaultLife)),
		site("site-b", db.ResponderActive, rowAt(a, "site-b", p256(), 200*time.Hour, certprofile.DefaultLife), rowAt(a, "site-b", p256(), 140*time.Hour, 30*24*time.Hour)),
		site("site-c", db.ResponderSuspended, rowAt(a, "site-c", p256(), 150*time.Hour, certprofile.DefaultLife)),
		site("site-d", db.ResponderRevoked, rowAt(a, "site-d", p256(), 150*time.Hour, certprofile.DefaultLife)),
		site("site-e", db.ResponderActive, rowAt(a, "site-e", p256(), 120*time.Hour, certprofile.DefaultLife)),
		site("site-f", db.ResponderActive, rowAt(a, "site-f", p256(), 350*time.Hour, certprofile.DefaultLife)),
	}, []*Authority{a}, now)
	var got []string
	for _, r := range list {
		line := r.Site + " " + r.Kind
		if r.Due {
			line += " due"
		}
		if r.Alarming() {
			line += " alarm"
		}
		if r.Refused != "" {
			line += " refused"
		}
		got = append(got, line)
	}
	want := "site-a p256, site-a rsa2048 due, site-b p256, site-e p256 due alarm, site-f p256 due alarm refused"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	if list[2].life != 30*24*time.Hour {
		t.Errorf("site-b's next life is %s, unlike its last", list[2].life)
	}
}

// A series is drawn up for each kind of key that a site has, by its newest certificate.
func TestLastProofsAreOneOfEachKindOfKey(t *testing.T) {
	a := newCA(t, p256(), db.ProfileRevocable, func(c *x509.Certificate) { c.NotBefore = now.Add(-1000 * time.Hour) })
	before := rowAt(a, "site-a", p256(), 150*time.Hour, certprofile.DefaultLife)
	ec, rsa := rowAt(a, "site-a", p256(), 80*time.Hour, certprofile.DefaultLife), rowAt(a, "site-a", rsa2048(), 90*time.Hour, certprofile.DefaultLife)
	roster := []masterdb.Responder{
		site("site-a", db.ResponderActive, before, rsa, ec),
		site("site-b", db.ResponderSuspended, rowAt(a, "site-b", p256(), time.Hour, certprofile.DefaultLife)),
	}
	if got := a.LastProofs(roster, "site-a", now); len(got) != 2 || !bytes.Equal(got[0], ec.DER) || !bytes.Equal(got[1], rsa.DER) {
		t.Errorf("%d proofs: %x", len(got), got)
	}
	if got := a.LastProofs(roster, "site-b", now); len(got) != 0 {
		t.Errorf("a suspended site has %d", len(got))
	}
}

// Whoever can change columns wins no certificate by it: site and key are the
// certificate's, and a row that contradicts it is named.
func TestRenewalGoesByTheCertificateAloneNotByColumns(t *testing.T) {
	a := newCA(t, p256(), db.ProfileRevocable, nil)
	good := rowAt(a, "site-a", p256(), 100*time.Hour, certprofile.DefaultLife)
	thief := newCA(t, p256(), db.ProfileRevocable, nil) // the same name, another key
	swapped, rekeyed, renumbered, forged, none := good, good, good, rowAt(thief, "site-a", p256(), time.Hour, certprofile.DefaultLife), good
	swapped.Site = "site-b"
	rekeyed.KeyHash[0] ^= 1
	renumbered.Serial = db.Serial{1}
	none.DER = []byte{1, 2, 3}
	for want, row := range map[string]masterdb.RosterCertificate{
		`its row says site "site-b", its certificate "site-a"`: swapped,
		"another key than its certificate":                     rekeyed,
		"another serial than its certificate":                  renumbered,
		"does not bear the CA's signature":                     forged,
		"reading its certificate":                              none,
	} {
		list := Renewals([]masterdb.Responder{site("site-a", db.ResponderActive, good), site("site-b", db.ResponderActive, row)}, []*Authority{a}, now)
		var refused, renewed int
		for _, r := range list {
			switch {
			case strings.Contains(r.Refused, want):
				refused++
			case r.Refused == "" && r.Due && r.Site == "site-a" && r.request.KeyHash == good.KeyHash:
				renewed++
			default:
				t.Errorf("%s: %+v", want, r)
			}
		}
		if refused != 1 || renewed != 1 {
			t.Errorf("%s: %d refused, %d renewed: %+v", want, refused, renewed, list)
		}
	}
	revoked := good
	revoked.Status.Revoked, revoked.Status.RevokedAt = true, now
	if list := Renewals([]masterdb.Responder{site("site-a", db.ResponderActive, revoked)}, []*Authority{a}, now); len(list) != 1 || list[0].Refused == "" {
		t.Errorf("a revoked one: %+v", list)
	}
	if _, err := (Renewal{Refused: "no"}).Do(t.Context(), nil, 0, now, rand.Reader, db.Act{}); err == nil {
		t.Error("a refused renewal was done")
	}
}
