package index_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A model in Go follows random changes; database, copy and model agree at each
// head. Each run has a small set of serials of its own.
func TestCopyEqualsModel(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	s.tx("delete from certificate where serial <> '\\x02'", settle)
	model := map[string]db.Status{"\x02": {}}
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		var serials []db.Serial
		run++
		for _, rest := range []string{"", "a", "\x00", "abcdef", "abcdefghijklmn", "abcdefghijklmnopqr"} {
			serials = append(serials, append(db.Serial{0x10 + byte(run>>8), byte(run)}, rest...))
		}
		for range rapid.IntRange(1, 4).Draw(r, "transactions") {
			var statements []string
			for range rapid.IntRange(1, 6).Draw(r, "changes") {
				statements = append(statements, randomChange(r, serials, model))
			}
			if rapid.IntRange(0, 9).Draw(r, "reseed") == 0 {
				statements = append(statements, `lock table feed_head, issuer, certificate, responder_certificate in access exclusive mode`,
					"create temp table kept on commit drop as select * from certificate", "truncate certificate, site_tombstone",
					"insert into certificate (issuer_id, serial, not_after, revoked_at, reason) select issuer_id, serial, not_after, revoked_at, reason from kept")
			}
			s.tx(append(statements, settle)...)
			c.caughtUp(s)
			for _, serial := range serials {
				got, _, err := c.Lookup(t.Context(), 1, serial)
				want, issued := model[string(serial)]
				if issued != (err == nil) || (err != nil && !errors.Is(err, db.ErrNotIssued)) {
					r.Fatalf("serial %s: %v, issued %t", serial, err, issued)
				}
				got.Changed = 0
				if diff := cmp.Diff(want, got); issued && diff != "" {
					r.Fatalf("serial %s: %s", serial, diff)
				}
			}
			if c.Len() != len(model) {
				r.Fatalf("%d certificates, want %d", c.Len(), len(model))
			}
		}
	})
	if c.log.count("snapshot refused") != 0 {
		t.Errorf("log:\n%s", c.log)
	}
}

// randomChange changes the model and returns the statement that does the same.
// Permanent revocations stay, and no end of one moves back, as on the master.
func randomChange(r *rapid.T, serials []db.Serial, model map[string]db.Status) string {
	serial := rapid.SampledFrom(serials).Draw(r, "serial")
	status, issued := model[string(serial)]
	if !issued {
		status = db.Status{NotAfter: randomTime(r, 2090, 9999), Reason: db.ReasonNone}
	}
	switch kind := rapid.IntRange(0, 3).Draw(r, "kind"); {
	case kind == 0 && issued && !status.Permanent():
		delete(model, string(serial))
		return fmt.Sprintf(`delete from certificate where serial = '\x%s'`, serial)
	case kind == 1 && !status.Permanent():
		status.Revoked, status.RevokedAt, status.Reason = false, time.Time{}, db.ReasonNone
	case status.Permanent():
		later := rapid.Int64Range(status.NotAfter.Unix(), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).Unix()).Draw(r, "later")
		status.NotAfter = time.Unix(later, 0).UTC()
	default:
		status.Revoked, status.RevokedAt = true, randomTime(r, 1972, 2026)
		status.Reason = rapid.SampledFrom([]db.Reason{-1, 1, 2, 3, 4, 5, 6, 6, 6, 6, 9, 10}).Draw(r, "reason")
	}
	model[string(serial)] = status
	revoked, reason := "null", "null"
	if status.Revoked {
		revoked = "'" + status.RevokedAt.Format(time.RFC3339) + "'"
	}
	if status.Reason > 0 {
		reason = fmt.Sprint(int(status.Reason))
	}
	return fmt.Sprintf(`insert into certificate (issuer_id, serial, not_after, revoked_at, reason) values (1, '\x%s', '%s', %s, %s)
		on conflict (issuer_id, serial) do update set not_after = excluded.not_after, revoked_at = excluded.revoked_at, reason = excluded.reason`,
		serial, strings.Replace(status.NotAfter.Format(time.RFC3339), "Z", "+00", 1), revoked, reason)
}

func randomTime(r *rapid.T, from, to int) time.Time {
	low, high := time.Date(from, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(to, 12, 31, 0, 0, 0, 0, time.UTC).Unix()
	return time.Unix(rapid.Int64Range(low, high).Draw(r, "time"), 0).UTC()
}
