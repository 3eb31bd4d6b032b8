package ingest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/ops/ingest/syntax"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var act = db.Act{User: "tester", Why: "test"}

// master returns a fresh master.
func master(t *testing.T) *masterdb.DB {
	t.Helper()
	store, err := masterdb.Open(t.Context(), tables.Config{DSN: dbtest.New(t, migrations.Master), MaxConns: 20}) // each open File holds one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.InitHead(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if _, err := store.SetLimit(t.Context(), 1_000_000, act); err != nil {
		t.Fatal(err)
	}
	return store
}

// newIssuer puts one more issuer on the master.
func newIssuer(ctx context.Context, store *masterdb.DB) (db.Issuer, error) {
	issuer := db.Issuer{Certificate: []byte{0x30, 0}, Policy: db.Policy{
		Validity: 72 * time.Hour, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
		NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
	}}
	_, _ = rand.Read(issuer.Key[:])
	issuer.Name = fmt.Sprintf("i%x", issuer.Key[:8])
	var err error
	issuer.ID, err = store.AddIssuer(ctx, issuer, act)
	return issuer, err
}

func oneIssuer(t *testing.T, store *masterdb.DB) db.Issuer {
	t.Helper()
	issuer, err := newIssuer(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

func plan(t *testing.T, path string, store *masterdb.DB, issuer db.Issuer) *Plan {
	t.Helper()
	o := options(db.ProfileRevocable)
	o.Issuer = issuer
	return planOf(t, path, store, o)
}

// planOf judges a good file and plans its import.
func planOf(t *testing.T, path string, store *masterdb.DB, o Options) *Plan {
	t.Helper()
	f, err := Open(t.Context(), store, []string{path}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	p, err := f.Plan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// numbered makes an index of n rows, every tenth revoked.
func numbered(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		if i%10 == 0 {
			lines[i] = fmt.Sprintf("R\t301231235959Z\t260101120000Z,superseded\t%06X\tunknown\t/CN=n%d", i+1, i)
		} else {
			lines[i] = fmt.Sprintf("V\t301231235959Z\t\t%06X\tunknown\t/CN=n%d", i+1, i)
		}
	}
	return lines
}

// An import that broke off is resumed by a rerun, and one more rerun does nothing.
func TestImportIsResumedAndIdempotent(t *testing.T) {
	store := master(t)
	issuer := oneIssuer(t, store)
	path := write(t, numbered(12_000)...)
	p := plan(t, path, store, issuer)
	if p.Counts[masterdb.ImportNew] != 12_000 || p.Writes() != 12_000 || p.Conflicts() != 0 || len(p.First) != 20 {
		t.Fatalf("plan %+v", p)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done, err := p.Apply(ctx, store, act, func(g Progress) {
		if g.Done == 5000 { // the first of three batches
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || done.Inserted != 5000 {
		t.Fatalf("broken off: %+v, %v", done, err)
	}

	p = plan(t, path, store, issuer)
	if p.Counts[masterdb.ImportSame] != 5000 || p.Counts[masterdb.ImportNew] != 7000 {
		t.Fatalf("plan after half: %v", p.Counts)
	}
	var last Progress
	done, err = p.Apply(t.Context(), store, act, func(g Progress) { last = g })
	if err != nil || done != (Result{Inserted: 7000, Unchanged: 5000}) {
		t.Fatalf("resumed: %+v, %v", done, err)
	}
	if last.Done != 12_000 || last.Total != 12_000 || last.Rate() <= 0 || last.Left() != 0 {
		t.Errorf("last progress %+v", last)
	}

	before, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p = plan(t, path, store, issuer)
	if p.Writes() != 0 || p.Counts[masterdb.ImportSame] != 12_000 || len(p.First) != 0 {
		t.Errorf("plan of the rerun: %+v", p)
	}
	if done, err = p.Apply(t.Context(), store, act, nil); err != nil || done.Unchanged != 12_000 {
		t.Errorf("rerun: %+v, %v", done, err)
	}
	after, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.Position != before.Position || after.AuditCount != before.AuditCount || after.Certificates.Count != 12_000 {
		t.Errorf("the rerun changed something: %+v, then %+v", before, after)
	}
}

// One bad row anywhere: nothing of the file comes to the master.
func TestNothingIsImportedOfABadFile(t *testing.T) {
	faults := faultsOf(t, master(t), write(t, append(numbered(6000), "V\tbad")...), options(db.ProfileRevocable))
	if diff := cmp.Diff([]Note{{KindBad, syntax.Place{Line: 6001}, "has 2 fields, want 6 separated by tabs"}}, faults.First); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestRevocationIsNeverTakenBack(t *testing.T) {
	store := master(t)
	issuer := oneIssuer(t, store)
	old := write(t, "V\t301231235959Z\t\t01\tunknown\t/CN=x", "R\t301231235959Z\t260101120000Z,certificateHold\t02\tunknown\t/CN=x")
	if _, err := plan(t, old, store, issuer).Apply(t.Context(), store, act, nil); err != nil {
		t.Fatal(err)
	}
	for serial, reason := range map[string]db.Reason{"01": db.ReasonKeyCompromise, "02": db.ReasonSuperseded} {
		s, err := db.ParseSerial(serial)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := store.Revoke(t.Context(), issuer.ID, s, reason, now.Add(-time.Hour), act); err != nil {
			t.Fatal(err)
		}
	}
	p := plan(t, old, store, issuer) // yesterday's file
	if p.Counts[masterdb.ImportKept] != 2 || p.Conflicts() != 2 || p.Writes() != 0 {
		t.Errorf("plan %v", p.Counts)
	}
	if done, err := p.Apply(t.Context(), store, act, nil); err != nil || done != (Result{Unchanged: 2}) {
		t.Errorf("apply: %+v, %v", done, err)
	}
	for _, serial := range []db.Serial{{1}, {2}} {
		if s, err := store.Certificate(t.Context(), issuer.ID, serial); err != nil || !s.Permanent() {
			t.Errorf("serial %s: %+v, %v", serial, s, err)
		}
	}
}

func TestAnotherIssuersFileIsRefused(t *testing.T) {
	store := master(t)
	issuer := oneIssuer(t, store)
	if _, err := store.Issue(t.Context(), issuer.ID, db.Serial{1}, now, act); err != nil {
		t.Fatal(err)
	}
	p := plan(t, write(t, "V\t301231235959Z\t\t01\tunknown\t/CN=x", "V\t301231235959Z\t\t02\tunknown\t/CN=x"), store, issuer)
	if _, err := p.Apply(t.Context(), store, act, nil); !errors.Is(err, ErrOtherCertificates) {
		t.Errorf("apply: %v", err)
	}
	if _, err := store.Certificate(t.Context(), issuer.ID, db.Serial{2}); !errors.Is(err, db.ErrNotIssued) {
		t.Errorf("something was imported: %v", err)
	}
	want := Difference{
		syntax.Place{Line: 1},
		db.Serial{1},
		masterdb.ImportOtherEnd,
		db.Status{NotAfter: time.Date(2030, 12, 31, 23, 59, 59, 0, time.UTC), Reason: db.ReasonNone},
		db.Status{NotAfter: now, Reason: db.ReasonNone},
	}
	if diff := cmp.Diff(want, p.First[0]); diff != "" {
		t.Errorf("first difference (-want +got):\n%s", diff)
	}
}

// What is written is what was judged, whatever becomes of the file meanwhile.
func TestFileIsReadOnce(t *testing.T) {
	store := master(t)
	issuer := oneIssuer(t, store)
	path := write(t, numbered(6000)...)
	p := plan(t, path, store, issuer)
	if err := os.WriteFile(path, []byte("V\t301231235959Z\t\tFFFFFF\tunknown\t/CN=another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if done, err := p.Apply(t.Context(), store, act, nil); err != nil || done != (Result{Inserted: 6000}) {
		t.Errorf("apply: %+v, %v", done, err)
	}
	if _, err := store.Certificate(t.Context(), issuer.ID, db.Serial{0, 0xff, 0xff, 0xff}); !errors.Is(err, db.ErrNotIssued) {
		t.Errorf("what was not judged: %v", err)
	}
}

// For any master and any file: apply does what the plan says, no revocation is
// lost, and the head still fits the rows.
func TestPlanIsWhatApplyDoes(t *testing.T) {
	store := master(t)
	ends := []time.Time{now.Add(24 * time.Hour), now.Add(48 * time.Hour)}
	status := rapid.Custom(func(r *rapid.T) db.Status {
		end := ends[0]
		if rapid.IntRange(0, 30).Draw(r, "other end") == 0 {
			end = ends[1]
		}
		s := db.Status{NotAfter: end, Reason: db.ReasonNone}
		if rapid.Bool().Draw(r, "revoked") {
			s.Revoked, s.RevokedAt = true, now.Add(-time.Duration(rapid.IntRange(1, 2).Draw(r, "hours ago"))*time.Hour)
			s.Reason = rapid.SampledFrom([]db.Reason{db.ReasonNone, db.ReasonKeyCompromise, db.ReasonCertificateHold}).Draw(r, "reason")
		}
		return s
	})
	rows := rapid.MapOfN(rapid.IntRange(1, 40), status, 1, 25)
	rapid.Check(t, func(r *rapid.T) {
		issuer, err := newIssuer(t.Context(), store)
		if err != nil {
			r.Fatal(err)
		}
		before, source := rows.Draw(r, "master"), rows.Draw(r, "file")
		if _, _, _, err := store.ImportBatch(t.Context(), issuer.ID, rowsFrom(before), masterdb.ImportSource{}, act); err != nil {
			r.Fatal(err)
		}
		p := plan(t, write(t, linesFrom(source)...), store, issuer)
		defer p.file.Close() // each holds a connection
		done, err := p.Apply(t.Context(), store, act, nil)
		if n := p.Counts[masterdb.ImportOtherEnd]; n > 0 {
			if !errors.Is(err, ErrOtherCertificates) {
				r.Fatalf("apply: %v", err)
			}
			source = nil // nothing of it may be there
		} else if err != nil || done.Inserted+done.Revoked != p.Writes() || done.Inserted != p.Counts[masterdb.ImportNew] {
			r.Fatalf("plan %v, done %+v, %v", p.Counts, done, err)
		}
		for n := 1; n <= 40; n++ {
			got, err := store.Certificate(t.Context(), issuer.ID, db.Serial{byte(n)})
			here, hereToo := before[n]
			there, thereToo := source[n]
			want := here
			switch {
			case thereToo && (!hereToo || there.Revoked && !here.Permanent() && (!here.Revoked || there.Permanent())):
				want = there
			case thereToo && here.Permanent() && there.Revoked && there.Reason == db.ReasonKeyCompromise:
				want.Reason = db.ReasonKeyCompromise // the time stays
			}
			if (err == nil) != (hereToo || thereToo) || err == nil && got != want {
				r.Fatalf("serial %d: %+v (%v), want %+v: master %+v, file %+v", n, got, err, want, here, there)
			}
		}
	})
	counts, err := store.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if !c.Identical {
			t.Errorf("head and rows differ: %+v", c)
		}
	}
}

func rowsFrom(all map[int]db.Status) []masterdb.Row {
	var rows []masterdb.Row
	for n, s := range all {
		rows = append(rows, masterdb.Row{Serial: db.Serial{byte(n)}, Status: s})
	}
	return rows
}

func linesFrom(all map[int]db.Status) []string {
	const layout = "20060102150405Z"
	var lines []string
	for n, s := range all {
		fields := []string{"V", s.NotAfter.Format(layout), "", fmt.Sprintf("%02X", n), "unknown", "/CN=x"}
		if s.Revoked {
			fields[0], fields[2] = "R", s.RevokedAt.Format(layout)
			if s.Reason != db.ReasonNone {
				fields[2] += "," + s.Reason.String()
			}
		}
		lines = append(lines, strings.Join(fields, "\t"))
	}
	return lines
}
