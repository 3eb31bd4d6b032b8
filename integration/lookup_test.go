package integration

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

// A certificate that was issued a moment ago, and that the site's copy does not have
// because nothing can be written into it: the site asks the master. With the master
// silent it says unauthorized, and when the copy has the row, the copy's word.
func TestASiteAsksForWhatWasJustIssued(t *testing.T) {
	if testing.Short() {
		t.Skip("a whole fleet is not started with -short")
	}
	t.Parallel()
	options := onGround(t).options(t, "ahead", 1)
	options.Sync, options.ReadThrough = "feed", true
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	f, err := devfleet.Up(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	c := &conformer{t, f, f.Sites[0], f.Issuers[0]}
	c.says(c.issuer.Serials.NeverIssued[0], ocsp.Unknown) // the master says so, too
	c.says(c.issuer.Serials.Good[0], ocsp.Good)

	site := openDB(t, c.site.SuperuserDSN)
	conn := dbtest.Connect(t, c.site.SuperuserDSN)
	if _, err := conn.Exec(t.Context(), "begin; lock table certificate in share mode"); err != nil {
		t.Fatal(err)
	}
	issued := "6d000000000000000000000000000001"
	c.ctl("cert", "issue", "--serial", issued, "--not-after", "2039-12-31T23:59:59Z")
	c.says(issued, ocsp.Good)
	serial, err := db.ParseSerial(issued)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.Certificate(t.Context(), 1, serial); err == nil {
		t.Fatal("the copy has the row: nothing was shown")
	}
	answer, err := f.Ask(t.Context(), c.site, c.issuer, issued)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(answer.NextUpdate); left > 5*time.Minute {
		t.Errorf("the answer is good for %s", left)
	}

	if err := f.Kill(t.Context(), "master/ocspsyncd"); err != nil {
		t.Fatal(err)
	}
	c.eventually("unauthorized, with the master silent", func() error {
		answer, err := f.Ask(t.Context(), c.site, c.issuer, "6d000000000000000000000000000002")
		var refused ocsp.ResponseError
		if errors.As(err, &refused) && refused.Status == ocsp.Unauthorized {
			return nil
		}
		return fmt.Errorf("it says %v, %w", answer, err)
	})
	c.says(c.issuer.Serials.Good[0], ocsp.Good)

	if _, err := conn.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context(), "master/ocspsyncd"); err != nil {
		t.Fatal(err)
	}
	c.equals()
	c.says(issued, ocsp.Good)
	c.ctl("cert", "revoke", "--serial", issued, "--reason", "superseded")
	c.says(issued, ocsp.Revoked)
}
