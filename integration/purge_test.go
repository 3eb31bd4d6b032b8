package integration

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

// TestAPurgeReachesBothWays: certificates that ended long ago go at the master, and at
// a site by the feed and one by native replication; whoever asks for them, or for one
// that was never issued, is told nothing. All else is as it was.
func TestAPurgeReachesBothWays(t *testing.T) {
	if testing.Short() {
		t.Skip("a whole fleet is not started with -short")
	}
	t.Parallel()
	f, err := devfleet.Up(t.Context(), onGround(t).options(t, "purge", 2))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			_ = f.WriteLogs(t.Output(), "", 20)
		}
	}()
	issuer, other := f.Issuers[0], f.Issuers[1]
	never, good, revoked := issuer.Serials.NeverIssued[0], issuer.Serials.Good[0], issuer.Serials.Revoked[0].Serial
	ended := []string{fmt.Sprintf("6d%030x", 1), fmt.Sprintf("6d%030x", 2)}
	before := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
	ctl := &conformer{t, f, f.Sites[0], issuer}
	for _, serial := range ended {
		ctl.ctl("cert", "issue", "--serial", serial, "--not-after", "2020-12-31T00:00:00Z")
	}
	ctl.ctl("cert", "revoke", "--serial", ended[1], "--reason", "keyCompromise")
	for _, site := range f.Sites {
		await(t, f, site, issuer, ended[0], ocsp.Good, 2*patience)
		await(t, f, site, issuer, ended[1], ocsp.Revoked, 2*patience)
		await(t, f, site, issuer, never, ocsp.Unknown, 2*patience)
	}
	ctl.ctl("db", "purge", "--before", "2021-01-01", "--why", "as decided")
	if err := f.Approve(t.Context(), 1, false, "checked"); err != nil {
		t.Fatal(err)
	}
	ctl.ctl("db", "purge", "--before", "2021-01-01", "--why", "as decided")
	for _, site := range f.Sites {
		c := &conformer{t, f, site, issuer}
		for _, serial := range append(ended, never) {
			c.eventually(site.Sync+": nothing is said of "+serial, func() error { return unauthorized(t, f, site, issuer, serial) })
		}
		c.says(good, ocsp.Good)
		c.says(revoked, ocsp.Revoked)
		await(t, f, site, other, other.Serials.NeverIssued[0], ocsp.Unknown, 2*patience)
		c.equals()
		c.eventually(site.Sync+": the mark is there", func() error {
			var mark *time.Time
			err := dbtest.Connect(t, site.SuperuserDSN).QueryRow(t.Context(), "select purge_before from feed_head").Scan(&mark)
			if err == nil && (mark == nil || !mark.Equal(before)) {
				err = fmt.Errorf("it is %v", mark)
			}
			return err
		})
	}
	whole(t, f, 2*patience)
}

// unauthorized asks for a serial of which nothing is to be said.
func unauthorized(t *testing.T, f *devfleet.Fleet, site devfleet.Site, issuer devfleet.Issuer, serial string) error {
	t.Helper()
	answer, err := f.Ask(t.Context(), site, issuer, serial)
	var refused ocsp.ResponseError
	switch {
	case errors.As(err, &refused) && refused.Status == ocsp.Unauthorized:
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%s says %s", site.Name, devfleet.StatusName(answer.Status))
}
