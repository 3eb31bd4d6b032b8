package integration

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"

	"golang.org/x/crypto/ocsp"
)

var noCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// policyChange has both sites, by the feed and by native replication, follow a new
// policy without a restart.
func (s *identities) policyChange() {
	s.Helper()
	s.ctl("issuer", "set", s.issuer.Name, "--validity", "48h", "--max-staleness", "24h", "--why", "shorter", "--apply")
	for _, site := range s.f.Sites {
		var lasts time.Duration
		for end := time.Now().Add(2 * patience); lasts != 48*time.Hour; time.Sleep(50 * time.Millisecond) {
			answer, err := s.f.Ask(s.Context(), site, s.issuer, s.serial)
			if err == nil {
				lasts = answer.NextUpdate.Sub(answer.ThisUpdate)
			}
			if time.Now().After(end) {
				s.Fatalf("%s: answers are valid for %s, want 48h (%v)", site.Name, lasts, err)
			}
		}
	}
}

// caSays changes one line of a CA's own configuration.
func (s *identities) caSays(issuer, old, line string) {
	s.Helper()
	path := s.f.Path(s.f.OcspctlConfig)
	text, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	head, tail, found := strings.Cut(string(text), "  "+issuer+":\n")
	if !found || !strings.Contains(tail, old) {
		s.Fatalf("%s says nothing of %s for %s", path, old, issuer)
	}
	if err := os.WriteFile(path, []byte(head+"  "+issuer+":\n"+strings.Replace(tail, old, line, 1)), 0o600); err != nil {
		s.Fatal(err)
	}
}

// withheld suspends site-b with an issuer that knows no hold. Its ocspsyncd is down
// and its login open, so that nobody tells it that access is denied: that its certificate's
// row is gone is the only news.
func (s *identities) withheld() {
	s.Helper()
	site, issuer := s.f.Sites[1], s.f.Issuers[1]
	serial := issuer.Serials.Good[0]
	part := site.Name + "/ocspsyncd"
	var held struct{ Certificates []struct{ Serial string } } // examples, which br forbids
	if err := json.Unmarshal([]byte(s.ctl("cert", "list", "--issuer", issuer.Name, "--status", "hold", "--output", "json")), &held); err != nil {
		s.Fatal(err)
	}
	for _, c := range held.Certificates {
		s.ctl("cert", "release", "--issuer", issuer.Name, "--serial", c.Serial, "--why", "br", "--apply")
	}
	s.ctl("issuer", "set", issuer.Name, "--profile", "br", "--why", "public", "--apply")
	// One operator does not decide that: the CA's own configuration says what it signs.
	if out, err := s.f.Ctl(s.Context(), "responder", "renew", site.Name, "--issuer", issuer.Name, "--apply"); err == nil || !strings.Contains(err.Error(), `its profile at the master is "br"`) {
		s.Errorf("the CA signed by the master's word: %v: %s", err, out)
	}
	s.caSays(issuer.Name, "profile: revocable", "profile: br")
	s.ctl("responder", "renew", site.Name, "--issuer", issuer.Name, "--why", "nocheck", "--apply")
	t := &identities{s.T, s.f, issuer, serial}
	t.awaitSigner(site, "a certificate with nocheck", func(c *x509.Certificate) bool {
		return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(noCheck) })
	})
	if err := s.f.Kill(s.Context(), part); err != nil {
		s.Fatal(err)
	}
	master, err := masterdb.Open(s.Context(), tables.Config{DSN: s.f.Master.DSN})
	if err != nil {
		s.Fatal(err)
	}
	defer master.Close()
	// The first step alone: the others close the way by which the rows come.
	if _, err := master.SuspendResponder(s.Context(), site.Name, db.Act{User: "test", Why: "a look"}); err != nil {
		s.Fatal(err)
	}
	if err := s.f.AwaitStopped(s.Context(), site, issuer, serial, 2*patience); err != nil {
		s.Error(err)
	}
	s.ctl("responder", "restore", site.Name, "--why", "all is well", "--apply")
	if err := s.f.Start(s.Context(), part); err != nil {
		s.Fatal(err)
	}
	await(s.T, s.f, site, issuer, serial, ocsp.Good, 2*patience)
	whole(s.T, s.f, 2*patience)
}
