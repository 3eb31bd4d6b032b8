package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

// TestTheFeedBarsASite: sites that follow the feed alone. One is suspended and comes
// back, once while all runs and once while it and its peer are cut off, so that the
// master's refusal is the only news; then it is revoked.
func TestTheFeedBarsASite(t *testing.T) {
	if testing.Short() {
		t.Skip("a whole fleet is not started with -short")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	options := onGround(t).options(t, "denied", 2)
	options.Sync = "feed"
	f, err := devfleet.Up(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			_ = f.WriteLogs(t.Output(), "", 20)
		}
	}()
	s := &identities{t, f, f.Issuers[0], f.Issuers[0].Serials.Good[0]}
	site := f.Sites[1]
	await(t, f, site, s.issuer, s.serial, ocsp.Good, 2*patience)

	s.ctl("responder", "suspend", site.Name, "--why", "a look", "--apply")
	s.isDenied(site)
	s.ctl("responder", "restore", site.Name, "--why", "all is well", "--apply")
	await(t, f, site, s.issuer, s.serial, ocsp.Good, 2*patience)
	whole(t, f, 2*patience)

	cut := []string{f.Sites[0].Name + "/ocspsyncd", site.Name + "/ocspsyncd"}
	for _, part := range cut {
		if err := f.Kill(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	s.ctl("responder", "suspend", site.Name, "--why", "another look", "--apply")
	if err := f.Start(t.Context(), cut[1]); err != nil {
		t.Fatal(err)
	}
	s.isDenied(site)
	s.ctl("responder", "restore", site.Name, "--why", "all is well", "--apply")
	if err := f.Start(t.Context(), cut[0]); err != nil {
		t.Fatal(err)
	}
	await(t, f, site, s.issuer, s.serial, ocsp.Good, 2*patience)
	whole(t, f, 2*patience)

	s.ctl("responder", "revoke", site.Name, "--reason", "keyCompromise", "--why", "broken into", "--apply")
	s.isDenied(site)
	await(t, f, f.Sites[0], s.issuer, s.serial, ocsp.Good, patience)
}

// isDenied waits until the site has stopped and both its daemons say why.
func (s *identities) isDenied(site devfleet.Site) {
	s.Helper()
	if err := s.f.AwaitStopped(s.Context(), site, s.issuer, s.serial, 2*patience); err != nil {
		s.Error(err)
	}
	for _, part := range []string{"/ocspd", "/ocspsyncd"} {
		var err error
		for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if err = s.f.Ready(s.Context(), site.Name+part); err != nil && strings.Contains(err.Error(), "suspended or revoked") {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), "suspended or revoked") {
			s.Errorf("%s%s does not say that access is denied: %v", site.Name, part, err)
		}
	}
}
