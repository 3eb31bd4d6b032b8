package ingest

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"pgregory.net/rapid"
)

// A CRL is silent on what is not revoked, expired, or revoked after it was made.
func TestReconcileWithACRLKnowsWhatItDoesNotTell(t *testing.T) {
	store := master(t)
	ca := newAuthority(t, "CA one")
	o := ca.options("crl")
	o.Issuer = oneIssuer(t, store)
	o.Issuer.Certificate = ca.cert.Raw
	made := now.Add(-time.Hour)
	rows := map[int]db.Status{
		1:  {NotAfter: now.Add(time.Hour), Reason: db.ReasonNone},                                                              // good: no matter
		2:  {NotAfter: made.Add(-time.Hour), Revoked: true, RevokedAt: made.Add(-2 * time.Hour), Reason: db.ReasonNone},        // expired
		3:  {NotAfter: now.Add(time.Hour), Revoked: true, RevokedAt: made.Add(time.Minute), Reason: db.ReasonNone},             // newer
		4:  {NotAfter: now.Add(time.Hour), Revoked: true, RevokedAt: made.Add(-time.Minute), Reason: db.ReasonNone},            // lacks in the CRL
		10: {NotAfter: now.Add(time.Hour), Revoked: true, RevokedAt: made, Reason: db.ReasonSuperseded},                        // the same
		11: {NotAfter: now.Add(time.Hour), Reason: db.ReasonNone},                                                              // good here, revoked there
		12: {NotAfter: now.Add(time.Hour), Revoked: true, RevokedAt: made.Add(-time.Minute), Reason: db.ReasonSuperseded},      // another time
		13: {NotAfter: now.Add(time.Hour), Revoked: true, RevokedAt: made.Add(-time.Minute), Reason: db.ReasonCertificateHold}, // on hold here
	}
	if _, _, _, err := store.ImportBatch(t.Context(), o.Issuer.ID, rowsFrom(rows), masterdb.ImportSource{}, act); err != nil {
		t.Fatal(err)
	}
	f, err := Open(t.Context(), store, []string{keep(t, "one.crl", ca.crl(t, 1, entries(5)))}, o) // 10 to 14, revoked when it was made
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Reconcile(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(c.Missing.Rows, c.FirstHere[0].Serial, c.Expired, c.Newer, c.Own, c.Counts[masterdb.ImportSame], c.Counts[masterdb.ImportRevoke],
		c.Counts[masterdb.ImportDetail], c.Counts[masterdb.ImportPermanent], c.Counts[masterdb.ImportNoEnd], c.Different())
	if want := fmt.Sprintln(1, "04", 1, 1, 0, 1, 1, 1, 1, 1, 5); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if after, err := store.Head(t.Context()); err != nil || after.AuditCount != before.AuditCount || after.Position != before.Position {
		t.Errorf("reconcile wrote: %+v, %v", after, err)
	}
}

// Whatever is on both sides, each difference is found, and no other.
func TestReconcileFindsWhatDiffersBothWays(t *testing.T) {
	if testing.Short() {
		t.Skip("tries a hundred random imports")
	}
	store := master(t)
	rows := rapid.MapOfN(rapid.IntRange(1, 40), rapid.Map(rapid.Bool(), func(revoked bool) db.Status {
		s := db.Status{NotAfter: now.AddDate(900, 0, 0), Reason: db.ReasonNone}
		if revoked {
			s.Revoked, s.RevokedAt = true, now.Add(-time.Hour)
		}
		return s
	}), 1, 25)
	rapid.Check(t, func(r *rapid.T) {
		o := options(db.ProfileRevocable)
		var err error
		if o.Issuer, err = newIssuer(t.Context(), store); err != nil {
			r.Fatal(err)
		}
		here, there := rows.Draw(r, "master"), rows.Draw(r, "file")
		if _, _, _, err := store.ImportBatch(t.Context(), o.Issuer.ID, rowsFrom(here), masterdb.ImportSource{}, act); err != nil {
			r.Fatal(err)
		}
		f, err := Open(t.Context(), store, []string{write(t, linesFrom(there)...)}, o)
		if err != nil {
			r.Fatal(err)
		}
		defer f.Close()
		c, err := f.Reconcile(t.Context(), nil)
		if err != nil {
			r.Fatal(err)
		}
		var want, onlyHere int64
		for n := 1; n <= 40; n++ {
			h, hereToo := here[n]
			s, thereToo := there[n]
			if hereToo && !thereToo {
				onlyHere++
			}
			if hereToo != thereToo || h != s {
				want++
			}
		}
		if c.Different() != want || c.Missing.Rows != onlyHere {
			r.Fatalf("%d differ, %d only here; want %d and %d", c.Different(), c.Missing.Rows, want, onlyHere)
		}
	})
}

// Rows come in pages, whatever the serials.
func TestEveryRowOfTheMasterIsSeenOnce(t *testing.T) {
	store := master(t)
	issuer := oneIssuer(t, store)
	const n = 25_000
	for from := 1; from <= n; from += 5000 {
		var rows []masterdb.Row
		for i := from; i < from+5000; i++ {
			rows = append(rows, masterdb.Row{
				Serial: db.SerialFromMagnitude(big.NewInt(int64(i)).Bytes(), false),
				Status: db.Status{NotAfter: now.AddDate(900, 0, 0), Reason: db.ReasonNone},
			})
		}
		if _, _, _, err := store.ImportBatch(t.Context(), issuer.ID, rows, masterdb.ImportSource{}, act); err != nil {
			t.Fatal(err)
		}
	}
	o := options(db.ProfileRevocable)
	o.Issuer = issuer
	f, err := Open(t.Context(), store, []string{write(t, "V\t301231235959Z\t\tFFFFFF\tunknown\t/CN=x")}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[string]bool{}
	missing, err := f.rows.Missing(t.Context(), time.Time{}, func(serial db.Serial, _ db.Status) error {
		seen[string(serial)] = true
		return nil
	})
	if err != nil || len(seen) != n || missing.Rows != n {
		t.Errorf("%d rows seen, %+v, %v", len(seen), missing, err)
	}
	var out strings.Builder
	if rows, err := store.Export(t.Context(), issuer.ID, masterdb.ExportCSV, &out); err != nil || rows != n || strings.Count(out.String(), "\n") != n+1 {
		t.Errorf("%d rows exported in %d lines, %v", rows, strings.Count(out.String(), "\n"), err)
	}
}
