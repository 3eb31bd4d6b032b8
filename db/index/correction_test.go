package index_test

import (
	"testing"
)

// correct is the correction of the revocation of 02.
const correct = `insert into correction values (1, '\x02', '2026-01-01', '2026-06-01', '\x00');`

// The one thing that lets a permanent revocation go: a correction of that very
// revocation in the same snapshot.
func TestACorrectionTakesAPermanentRevocationBack(t *testing.T) {
	t.Parallel()
	const good = `update certificate set revoked_at = null, reason = null where serial = '\x02'`
	for _, test := range []struct {
		name, sql string
		adopted   bool
	}{
		{"good", correct + good, true},
		{"good after a re-seed", correct + `truncate certificate; insert into certificate (issuer_id, serial, not_after) values (1, '\x02', '2099-01-01')`, true},
		{"in a new epoch", correct + good + "; update feed_head set epoch = epoch + 1, position = 60", true},
		{"of another revocation", `insert into correction values (1, '\x02', '2026-01-02', '2026-06-01', '\x00');` + good, false},
		{"of another serial", `insert into correction values (1, '\x03', '2026-01-01', '2026-06-01', '\x00');` + good, false},
		{"of another issuer", `insert into correction values (2, '\x02', '2026-01-01', '2026-06-01', '\x00');` + good, false},
		{"of a serial that only begins so", `insert into correction values (1, '\x0200', '2026-01-01', '2026-06-01', '\x00');` + good, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := seededSite(t)
			c := followed(t, s)
			s.tx(test.sql, settle)
			if !test.adopted {
				c.expectDoubt("divergence: the database has lost 1 permanent revocations")
				return
			}
			c.caughtUp(s)
			c.expect(2, "good")
			// The old correction excuses no other revocation.
			s.tx(`update certificate set revoked_at = '2026-07-01', reason = 1 where serial = '\x02'`, settle)
			c.caughtUp(s)
			c.expect(2, "revoked")
			s.tx(good, settle)
			c.expectDoubt("divergence: the database has lost 1 permanent revocations")
		})
	}
}

func TestACorrectionThatTheHeadDoesNotCountIsFound(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	s.tx(correct + `update certificate set revoked_at = null, reason = null where serial = '\x02'`)
	c.expectDoubt("divergence: certificate has 3 rows")
	s.tx("delete from correction", reseed)
	c.eventually("healed", func() bool { return c.Ready() == nil })
	c.expect(2, "revoked")
}

// A correction lets the row itself go, too: it was never issued. Without one it is lost.
func TestACorrectionLetsACertificateBeForgotten(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"with": correct, "without": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := seededSite(t)
			c := followed(t, s)
			s.tx(first+`delete from certificate where serial = '\x02'`, settle)
			if first == "" {
				c.expectDoubt("divergence: the database has lost 1 permanent revocations")
				return
			}
			c.caughtUp(s)
			c.expect(2, "absent")
		})
	}
}
