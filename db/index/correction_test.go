package index_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"ocspfleet/db"
)

// undoing is the correction of the revocation of 02, changed by how.
func undoing(how func(*db.Undoing)) db.Undoing {
	day := func(year int, month time.Month) time.Time { return time.Date(year, month, 1, 0, 0, 0, 0, time.UTC) }
	u := db.Undoing{
		Issuer: sha256.Sum256([]byte("key")), Serial: db.Serial{2}, Wrong: db.WrongRevoked, CorrectedAt: time.Now().Truncate(time.Second).UTC(),
		Was: db.Status{NotAfter: day(2099, 1), Revoked: true, RevokedAt: day(2026, 1), Reason: db.ReasonKeyCompromise},
	}
	if how != nil {
		how(&u)
	}
	return u
}

// correction is its row, whose note is what openNotes takes for signed.
func correction(how func(*db.Undoing)) string {
	u := undoing(how)
	note, err := json.Marshal(u)
	if err != nil {
		panic(err)
	}
	return correctionOf(u, note)
}

func correctionOf(u db.Undoing, note []byte) string {
	return fmt.Sprintf(`insert into correction values (1, '\x%s', '%s', '%s', '\x%x');`, u.Serial, u.Was.RevokedAt.Format(time.RFC3339), u.CorrectedAt.Format(time.RFC3339), note)
}

// forged is the same row, signed by nobody.
func forged() string { return correctionOf(undoing(nil), []byte("forged")) }

func openNotes(all []db.Correction) []*db.Undoing {
	opened := make([]*db.Undoing, len(all))
	for i, c := range all {
		var u db.Undoing
		if json.Unmarshal(c.Note, &u) == nil {
			opened[i] = &u
		}
	}
	return opened
}

// correcting is an index of a seeded site that has loaded it, and believes corrections.
func correcting(t *testing.T, s *site) *copied {
	t.Helper()
	s.tx("insert into feed_keys values (1, 'correct keys')")
	c := followWith(t, s.dsn, 20*time.Millisecond, trust)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	return c
}

const (
	good02 = `update certificate set revoked_at = null, reason = null where serial = '\x02';`
	lost02 = "divergence: the database has lost 1 permanent revocations"
)

// The one thing that lets a permanent revocation go: a correction of that very state
// in the same snapshot, whose note this process has verified.
func TestACorrectionTakesAPermanentRevocationBack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sql string
		adopted   bool
	}{
		{"good", correction(nil) + good02, true},
		{"good after a re-seed", correction(nil) + `truncate certificate; insert into certificate (issuer_id, serial, not_after) values (1, '\x02', '2099-01-01')`, true},
		{"in a new epoch", correction(nil) + good02 + "; update feed_head set epoch = epoch + 1, position = 60", true},
		{"signed by nobody", forged() + good02, false},
		{"of another revocation", correction(func(u *db.Undoing) { u.Was.RevokedAt = u.Was.RevokedAt.Add(time.Second) }) + good02, false},
		{"of another end", correction(func(u *db.Undoing) { u.Was.NotAfter = u.Was.NotAfter.Add(-time.Second) }) + good02, false},
		{"of another serial", correction(func(u *db.Undoing) { u.Serial = db.Serial{3} }) + good02, false},
		{"of another issuer", correction(func(u *db.Undoing) { u.Issuer = [32]byte{} }) + good02, false},
		{"of a serial that only begins so", correction(func(u *db.Undoing) { u.Serial = db.Serial{2, 0} }) + good02, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := seededSite(t)
			c := correcting(t, s)
			s.tx(test.sql, settle)
			if !test.adopted {
				c.expectDoubt(lost02)
				return
			}
			c.caughtUp(s)
			c.expect(2, "good")
			// The old correction excuses no other revocation.
			s.tx(`update certificate set revoked_at = '2026-07-01', reason = 1 where serial = '\x02'`, settle)
			c.caughtUp(s)
			c.expect(2, "revoked")
			s.tx(good02, settle)
			c.expectDoubt(lost02)
		})
	}
}

func TestACorrectionThatTheHeadDoesNotCountIsFound(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := correcting(t, s)
	s.tx(correction(nil) + good02)
	c.expectDoubt("divergence: certificate has 3 rows")
	s.tx("delete from correction", reseed)
	c.eventually("healed", func() bool { return c.Ready() == nil })
	c.expect(2, "revoked")
}

// A correction lets the row itself go, too: it was never issued. Without one it is lost.
func TestACorrectionLetsACertificateBeForgotten(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"with": correction(func(u *db.Undoing) { u.Wrong = db.WrongIssued }), "without": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := seededSite(t)
			c := correcting(t, s)
			s.tx(first+`delete from certificate where serial = '\x02'`, settle)
			if first == "" {
				c.expectDoubt(lost02)
				return
			}
			c.caughtUp(s)
			c.expect(2, "absent")
		})
	}
}

// Who writes the database, or brings rows into it, takes no permanent revocation back:
// not by roads that need no correction, either.
func TestRowsTakeNoRevocationBack(t *testing.T) {
	t.Parallel()
	other := func(key string) string {
		return "insert into issuer values (2, sha256('" + key + "'), 'other', 'certificate', 259200, 300, 129600, 900, 3600, 'unknown', 'revocable', '', 1); " +
			`insert into certificate (issuer_id, serial, not_after) values (2, '\x02', '2099-01-01');`
	}
	spent := correction(nil) + good02
	for _, test := range []struct {
		name, sql, want string
		before          string // taken in first
	}{
		{"a forged correction", forged() + good02, lost02, ""},
		{"an end that has come", `update certificate set not_after = '2026-02-01' where serial = '\x02'`, lost02, ""},
		{"an earlier end", `update certificate set not_after = '2098-12-31' where serial = '\x02'`, lost02, ""},
		{"an earlier time", `update certificate set revoked_at = '2025-12-31' where serial = '\x02'`, lost02, ""},
		{"the issuer under another number", "delete from issuer; " + other("key"), `divergence: issuer "ca" is gone, or has another key or number`, ""},
		{"the issuer's number with another key", "update issuer set key_hash = sha256('x');" + other("key"), `divergence: issuer "ca" is gone, or has another key or number`, ""},
		{"no issuer", "delete from issuer", `divergence: issuer "ca" is gone, or has another key or number`, ""},
		{"what was taken back, again", `update certificate set revoked_at = '2026-01-01', reason = 1 where serial = '\x02'`, lost02, spent},
		{"what was taken back, again, by a re-seed", `truncate certificate; insert into certificate (issuer_id, serial, not_after, revoked_at, reason) values (1, '\x02', '2099-01-01', '2026-01-01', 1)`, lost02, spent},
		{"the correction is gone", "delete from correction", "divergence: permanent revocations would be lost: the correction of that of 02", spent},
		{"a correction of long ago", correction(func(u *db.Undoing) { u.CorrectedAt = u.CorrectedAt.Add(-db.CorrectionLead - time.Minute) }), "divergence: permanent revocations would be lost: the correction of that of 02 was made at", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := seededSite(t)
			c := correcting(t, s)
			was := "revoked"
			if test.before != "" {
				s.tx(test.before, settle)
				c.caughtUp(s)
				was = "good"
			}
			issuers := fmt.Sprint(c.Issuers())
			s.tx(test.sql, settle)
			c.eventually("doubt", func() bool {
				return len(c.Horizon().Doubt) >= len(test.want) && c.Horizon().Doubt[:len(test.want)] == test.want
			})
			c.expect(2, was)
			if got := fmt.Sprint(c.Issuers()); got != issuers {
				t.Errorf("the issuers are %s, were %s", got, issuers)
			}
			if test.before == "" {
				s.tx(good02, settle) // the second step finds the first
				c.expectDoubt("divergence: ")
			}
		})
	}
}

// A correction that nobody signed takes nothing back, and is told of while the
// revocation stands; a key set that admits it ends that.
func TestAnUnbelievedCorrectionIsTold(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := follow(t, s.dsn, 20*time.Millisecond)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	s.tx(correction(nil), settle)
	c.eventually("told", func() bool { return c.Ready() != nil })
	c.eventually("adopted", func() bool { return c.Horizon().Position == 3 })
	if err := c.Ready().Error(); err != "correction: 1 that no believed key signed, of revocations that stand: 1/02" {
		t.Error(err)
	}
	if n := c.metric("ocspd_index_unbelieved_corrections"); n != 1 || c.Horizon().Doubt != "" {
		t.Errorf("%v are counted; doubt %q", n, c.Horizon().Doubt)
	}
	c.expect(2, "revoked")
	s.tx(good02, settle)
	c.expectDoubt(lost02) // and says what is missing
	if doubt := c.Horizon().Doubt; doubt[len(doubt)-len("set feed.root in ocspd.yaml)"):] != "set feed.root in ocspd.yaml)" {
		t.Error(doubt)
	}

	s = seededSite(t)
	s.tx("insert into feed_keys values (1, 'bad keys')")
	c = followWith(t, s.dsn, 20*time.Millisecond, trust)
	s.tx("update feed_keys set note = 'correct keys'")
	c.eventually("ready", func() bool { return c.Ready() == nil })
	s.tx(forged(), settle)
	c.eventually("told", func() bool { return c.Ready() != nil })
	s.tx("delete from correction; "+correction(nil)+good02, settle)
	c.eventually("a signed one in its place", func() bool { return c.Ready() == nil && c.says(2) == "good" })
}
