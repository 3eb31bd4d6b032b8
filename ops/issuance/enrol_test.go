package issuance

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/catest"
	"ocspfleet/ops/certprofile"
)

// The serial is registered, the certificate replicated, both counted in the head.
func TestEnrolledSiteIsOnTheRoster(t *testing.T) {
	store := catest.Master(t).Master
	a := newCA(t, p256(), db.ProfileRevocable, nil)
	catest.Register(t, store, &a.Issuer)
	key, c := enrol(t, store, a, "site-a", "http://a.example/")
	_, renewed := enrol(t, store, a, "site-b", "http://b.example/")
	roster, err := store.Responders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(roster) != 2 || roster[0].Name != "site-a" || roster[0].State != db.ResponderActive || roster[0].URL != "http://a.example/" || roster[0].Addresses[0] != "192.0.2.1" {
		t.Fatalf("roster %+v", roster)
	}
	got := roster[0].Certificates
	if len(got) != 1 || got[0].Fingerprint != c.Fingerprint || !bytes.Equal(got[0].DER, c.DER) || got[0].Status.Revoked ||
		!got[0].Status.NotAfter.Equal(now.Add(certprofile.DefaultLife)) {
		t.Errorf("certificates %+v", got)
	}
	if s, err := store.Certificate(t.Context(), a.Issuer.ID, renewed.Serial); err != nil || s.Revoked {
		t.Errorf("its serial: %+v, %v", s, err)
	}
	head, err := store.Head(t.Context())
	if err != nil || head.ResponderCertificates.Count != 2 || head.Certificates.Count != 2 {
		t.Errorf("head %+v, %v", head, err)
	}

	// Another site cannot enrol this key; after the site's revocation nobody can.
	stolen, err := ParseRequest(csr(key, "site-b"), "site-b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Enrol(t.Context(), store, a, stolen, certprofile.DefaultLife, now, rand.Reader, act); err == nil || !strings.Contains(err.Error(), `enrolled by site "site-a" already`) {
		t.Errorf("a key of another site: %v", err)
	}
	gone, err := store.RevokeResponder(t.Context(), "site-a", db.ReasonKeyCompromise, act)
	if err != nil || len(gone) != 1 || !gone[0].Changed || gone[0].Serial.String() != c.Serial.String() {
		t.Errorf("revoked %+v, %v", gone, err)
	}
	if s, err := store.Certificate(t.Context(), a.Issuer.ID, c.Serial); err != nil || s.Reason != db.ReasonKeyCompromise {
		t.Errorf("its certificate: %+v, %v", s, err)
	}
	again, err := ParseRequest(csr(key, "site-a"), "site-a")
	if err != nil {
		t.Fatal(err)
	}
	before, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Enrol(t.Context(), store, a, again, certprofile.DefaultLife, now, rand.Reader, act); err == nil || !strings.Contains(err.Error(), "never enrolled again") {
		t.Errorf("a banned key: %v", err)
	}
	if _, err := store.AddResponder(t.Context(), "site-a", "http://a.example/", nil, act); err == nil {
		t.Error("a revoked site's name was used again")
	}
	if after, err := store.Head(t.Context()); err != nil || after.Position != before.Position {
		t.Errorf("a refusal changed something: %+v, %v", after, err)
	}
	if _, err := store.RevokeResponder(t.Context(), "site-c", db.ReasonKeyCompromise, act); !errors.Is(err, masterdb.ErrNoResponder) {
		t.Errorf("an unknown site: %v", err)
	}
}
