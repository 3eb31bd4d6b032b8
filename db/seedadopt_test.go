package db_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// seedOf is a snapshot of these rows.
func seedOf(position int64, issuers []db.Issuer, corrections []db.Correction, certificates map[string]db.Status) sitedb.FeedSeed {
	head := db.Head{Epoch: 1000, Position: position, AsOf: adoptNow, AuditHash: []byte{}}
	var rows []db.Change
	add := func(tally *db.Tally, table byte, content []byte) {
		tally.Add(content)
		rows = append(rows, db.Change{Table: table, Content: content})
	}
	for _, i := range issuers {
		add(&head.Issuers, 'i', db.AppendIssuer(nil, i))
	}
	for _, c := range corrections {
		add(&head.Corrections, db.CorrectionTable, db.AppendCorrection(nil, c))
	}
	for serial, s := range certificates {
		add(&head.Certificates, db.CertificateTable, db.AppendCertificate(nil, issuers[0].ID, db.Serial(serial), s))
	}
	return sitedb.FeedSeed{
		Head: head, Chunks: 1, Anchor: sitedb.Anchor{Epoch: 1000, Number: 1}, Snapshot: db.Snapshot{Epoch: 1000, Position: position, Octets: 1, Note: []byte("manifest")},
		Chunk: func(context.Context, int) ([]byte, []db.Change, error) { return []byte("chunk"), rows, nil },
		Open: func(all []db.Correction) []*db.Undoing { // a note that is its own content counts as signed
			opened := make([]*db.Undoing, len(all))
			for i, c := range all {
				var u db.Undoing
				if json.Unmarshal(c.Note, &u) == nil {
					opened[i] = &u
				}
			}
			return opened
		},
	}
}

func seedIssuer(id db.IssuerID, key byte) db.Issuer {
	return db.Issuer{
		ID: id, Key: [32]byte{key}, Name: "ca", Certificate: []byte{0x30, 0}, Policy: db.Policy{
			Version: 1, Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
			HTTPMaxAge: time.Hour, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
		},
	}
}

// A snapshot, whoever signed it, takes a permanent revocation back by a verified
// correction of exactly that state alone, and no other road leads around it.
func TestASeedTakesNoRevocationBack(t *testing.T) {
	if testing.Short() {
		t.Skip("seeds thirty databases")
	}
	ca := []db.Issuer{seedIssuer(1, 1)}
	end := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	revoked, good := db.Status{NotAfter: end, Revoked: true, RevokedAt: at, Reason: db.ReasonSuperseded}, db.Status{NotAfter: end, Reason: db.ReasonNone}
	only := func(s db.Status) map[string]db.Status { return map[string]db.Status{"\x05": s} }
	with := func(how func(*db.Status)) map[string]db.Status { s := revoked; how(&s); return only(s) }
	correction := func(made time.Time, how func(*db.Undoing)) []db.Correction {
		u := db.Undoing{Issuer: [32]byte{1}, Serial: db.Serial{5}, Was: revoked, Wrong: db.WrongRevoked, CorrectedAt: made}
		if how != nil {
			how(&u)
		}
		note, err := json.Marshal(u)
		if err != nil {
			t.Fatal(err)
		}
		return []db.Correction{{IssuerID: 1, Serial: db.Serial{5}, RevokedAt: at, CorrectedAt: made, Note: note}}
	}
	signed := correction(adoptNow, nil)
	nobodys := []db.Correction{{IssuerID: 1, Serial: db.Serial{5}, RevokedAt: at, CorrectedAt: adoptNow, Note: []byte("forged")}}
	before := seedOf(1, ca, nil, only(revoked))
	corrected := seedOf(2, ca, signed, only(good))
	for _, test := range []struct {
		name      string
		have, are sitedb.FeedSeed
		adopted   bool
	}{
		{"corrected", before, corrected, true},
		{"a correction that comes before its change", before, seedOf(2, ca, signed, only(revoked)), true},
		{"an unbelieved correction alone", before, seedOf(2, ca, nobodys, only(revoked)), true},
		{"a forged correction", before, seedOf(2, ca, nobodys, only(good)), false},
		{"a correction of another state", before, seedOf(2, ca, correction(adoptNow, func(u *db.Undoing) { u.Was.NotAfter = at }), only(good)), false},
		{"a correction of long ago", before, seedOf(2, ca, correction(adoptNow.Add(-db.CorrectionLead-time.Second), nil), only(good)), false},
		{"a hold", before, seedOf(2, ca, nil, with(func(s *db.Status) { s.Reason = db.ReasonCertificateHold })), false},
		{"no row", before, seedOf(2, ca, nil, nil), false},
		{"an end that has come", before, seedOf(2, ca, nil, with(func(s *db.Status) { s.NotAfter = at })), false},
		{"another time", before, seedOf(2, ca, nil, with(func(s *db.Status) { s.RevokedAt = at.Add(time.Second) })), false},
		{"a later end", before, seedOf(2, ca, nil, with(func(s *db.Status) { s.NotAfter = end.Add(time.Hour) })), true},
		{"a graver reason", before, seedOf(2, ca, nil, with(func(s *db.Status) { s.Reason = db.ReasonKeyCompromise })), true},
		{"the issuer's other number", before, seedOf(2, []db.Issuer{seedIssuer(2, 1)}, nil, only(good)), false},
		{"the issuer's other key", before, seedOf(2, []db.Issuer{seedIssuer(1, 2)}, nil, only(revoked)), false},
		{"what was taken back comes again", corrected, seedOf(3, ca, signed, only(revoked)), false},
		{"the correction is gone", corrected, seedOf(3, ca, nil, only(good)), false},
		{"revoked anew, at another time", corrected, seedOf(3, ca, signed, with(func(s *db.Status) { s.RevokedAt = at.Add(time.Second) })), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := newSiteStore(t)
			if _, err := store.Replace(t.Context(), test.have); err != nil {
				t.Fatal(err)
			}
			_, err := store.Replace(t.Context(), test.are)
			want := test.are.Head
			if !test.adopted {
				want = test.have.Head
				if !errors.Is(err, db.ErrRevocationsLost) {
					t.Errorf("got %v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
			checkCopy(t, store, want)
		})
	}
}

// What a site remembers judges a seed, not the rows that it replaces: those may have been
// changed or emptied here, by the master's rows or by hand. A copy that lost its
// corrections gets them back, however old they are.
func TestASeedIsJudgedByWhatIsRemembered(t *testing.T) {
	ca := []db.Issuer{seedIssuer(1, 1)}
	end, at := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	revoked, good := db.Status{NotAfter: end, Revoked: true, RevokedAt: at, Reason: db.ReasonSuperseded}, db.Status{NotAfter: end, Reason: db.ReasonNone}
	only := func(s db.Status) map[string]db.Status { return map[string]db.Status{"\x05": s} }
	u := db.Undoing{Issuer: [32]byte{1}, Serial: db.Serial{5}, Was: revoked, Wrong: db.WrongRevoked, CorrectedAt: adoptNow}
	note, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	corrected := []db.Correction{{IssuerID: 1, Serial: db.Serial{5}, RevokedAt: at, CorrectedAt: adoptNow, Note: note}}
	late := seedOf(3, ca, corrected, only(good))
	late.Head.AsOf = adoptNow.Add(2 * db.CorrectionLead)
	for _, test := range []struct {
		name, damage string
		seeds        []sitedb.FeedSeed // the last is judged
		adopted      bool
	}{
		{"the row says good", "update certificate set revoked_at = null, reason = null", []sitedb.FeedSeed{seedOf(1, ca, nil, only(revoked)), seedOf(2, ca, nil, only(good))}, false},
		{"no head", "delete from feed_head", []sitedb.FeedSeed{seedOf(1, ca, nil, only(revoked)), seedOf(2, ca, nil, only(good))}, false},
		{"no rows at all", "truncate feed_head, issuer, certificate, responder_certificate, correction, closed_pin", []sitedb.FeedSeed{seedOf(1, ca, nil, only(revoked)), seedOf(2, ca, nil, nil)}, false},
		{"the issuer is another", "update issuer set key_hash = sha256('x')", []sitedb.FeedSeed{seedOf(1, ca, nil, only(revoked)), seedOf(2, []db.Issuer{seedIssuer(1, 2)}, nil, only(revoked))}, false},
		{"no correction any more", "delete from correction", []sitedb.FeedSeed{seedOf(1, ca, nil, only(revoked)), seedOf(2, ca, corrected, only(good)), late, late}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dsn := dbtest.New(t, migrations.Site)
			store := dbtest.Open(t, dbtest.As(dsn, "ocsp_sync")).Site
			last := len(test.seeds) - 1
			for _, seed := range test.seeds[:last] {
				if _, err := store.Replace(t.Context(), seed); err != nil {
					t.Fatal(err)
				}
			}
			dbtest.Exec(t, dsn, test.damage)
			if _, err := store.Replace(t.Context(), test.seeds[last]); test.adopted != (err == nil) || !test.adopted && !errors.Is(err, db.ErrRevocationsLost) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A snapshot is newer than what was sealed when it was made: the segment after its anchor
// ends before it, and has nothing that its rows do not have.
func TestASeedGoesOnFromASnapshotThatIsAheadOfItsSegment(t *testing.T) {
	for _, again := range []bool{false, true} { // an empty site, and one that has a copy
		store := newSiteStore(t)
		ca := []db.Issuer{seedIssuer(1, 1)}
		good := db.Status{NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), Reason: db.ReasonNone}
		from := seedOf(6, ca, nil, map[string]db.Status{"\x05": good, "\x06": good})
		if again {
			if _, err := store.Replace(t.Context(), seedOf(2, ca, nil, nil)); err != nil {
				t.Fatal(err)
			}
		}
		behind := seedOf(5, ca, nil, map[string]db.Status{"\x05": good}).Head
		from.Steps, from.Step = 1, func(int) (sitedb.FeedStep, error) {
			return sitedb.FeedStep{
				Head:    behind,
				Changes: []db.Change{{Table: db.CertificateTable, Content: db.AppendCertificate(nil, 1, db.Serial{5}, good)}},
				Note:    db.FeedNote{Epoch: 1000, Number: 2, Position: 5, AsOf: adoptNow, Note: []byte("note")},
				Segment: &db.Segment{Epoch: 1000, Number: 2, First: 5, Last: 5, Note: []byte("note"), Body: []byte("body")},
			}, nil
		}
		if _, err := store.Replace(t.Context(), from); err != nil {
			t.Fatalf("over a copy %v: %v", again, err)
		}
		copied, err := store.FeedCopy(t.Context())
		if err != nil || copied.Head.Position != 6 || copied.Anchor.Number != 2 {
			t.Errorf("over a copy %v: position %d, segment %d, %v", again, copied.Head.Position, copied.Anchor.Number, err)
		}
	}
}
