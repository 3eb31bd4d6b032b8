package index

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"ocspfleet/db"
)

// adoption returns the rules for adopting the snapshot, by the key set that this process has
// verified: what the rows themselves claim does not count.
func (x *Index) adoption(s *snapshot) *db.Adoption {
	held, next := x.lists.Load(), s.lists
	a := &db.Adoption{
		Ended: x.ended(s.head), AsOf: x.asOf, Held: db.Lists{Issuers: held.issuers, Corrections: held.corrections},
		Next: db.Lists{Issuers: next.issuers, Corrections: next.corrections}, Open: x.signed.trust.Corrections,
	}
	switch {
	case a.Open != nil:
	case x.cfg.Trust == nil:
		a.Why = "no root is pinned: set feed.root in ocspd.yaml"
	default:
		a.Why = x.signed.fault
	}
	return a
}

// ended is the time before which certificates have ended. While this site's clock differs from
// the master's, none has. Nor is the clock alone enough: where checkpoints are required, the
// time of the newest one counts.
func (x *Index) ended(h db.Head) time.Time {
	asOf := h.AsOf
	if x.wantsCheckpoint() {
		asOf = time.Time{}
		for _, v := range x.signed.heads {
			if v.AsOf.After(asOf) {
				asOf = v.AsOf
			}
		}
	}
	if x.skewed {
		asOf = time.Time{}
	}
	return db.Ended(x.cfg.Now(), asOf)
}

// lost is the revocations that a snapshot would remove.
type lost struct {
	count   int
	why     error    // the first error
	serials []string // the first few
}

func (l *lost) add(r row, err error) {
	if err == nil {
		return
	}
	l.count++
	if l.why == nil {
		l.why = err
	}
	if len(l.serials) < maxEvidence {
		l.serials = append(l.serials, fmt.Sprintf("%d/%s", r.issuer(), r.serial()))
	}
}

// lostRevocations finds the permanent revocations that the snapshot would remove.
func lostRevocations(a *db.Adoption, s *snapshot, held *table) lost {
	var l lost
	corrections := int64(len(a.Held.Corrections))
	check := func(prev, next row) {
		was, is := prev.statusIf(), next.statusIf()
		if !db.Suspect(was, is, a.Ended, corrections) {
			return
		}
		r := prev
		if r == nil {
			r = next
		}
		l.add(r, a.Certificate(r.issuer(), r.serial(), was, is))
	}
	if s.table == nil {
		for _, c := range s.changes {
			check(c.prev, c.next)
		}
		return l
	}
	for prev := range held.all() {
		if prev.irrevocable(a.Ended) { // before the look-up: only a few rows are
			next, _ := s.table.find(prev.key())
			check(prev, next)
		}
	}
	for _, c := range a.Held.Corrections { // a revocation that a correction removed may come again
		key := appendKey(nil, c.IssuerID, c.Serial)
		prev, _ := held.find(key)
		if next, there := s.table.find(key); there && (prev == nil || !prev.irrevocable(a.Ended)) {
			check(prev, next)
		}
	}
	return l
}

// checkAdoption refuses a snapshot that db.Adoption refuses.
func (x *Index) checkAdoption(s *snapshot) result {
	held := x.table.Load()
	if held == nil {
		return result{}
	}
	a := x.adoption(s)
	if l := lostRevocations(a, s, held); l.count > 0 {
		return result{kind: lostRevocation, lost: l.serials, text: fmt.Sprintf("divergence: the database has lost %d permanent revocations that this copy holds: %v", l.count, l.why)}
	}
	if s.lists == x.lists.Load() {
		return result{}
	}
	err := a.Lists(func(issuer db.IssuerID, each func(db.Serial, db.Status) error) error {
		for r := range held.all() {
			if r.issuer() == issuer && r.irrevocable(a.Ended) {
				if err := each(r.serial(), r.status()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return result{kind: lostRevocation, text: "divergence: " + err.Error()}
	}
	return result{}
}

// tellUnbelieved logs the revocations that stay although there are corrections of them.
func (x *Index) tellUnbelieved(ctx context.Context) {
	if held := x.lists.Load(); x.judged != held {
		x.judged, x.doubtful = held, x.adoption(&snapshot{lists: held}).Unbelieved()
	}
	table, now := x.table.Load(), x.cfg.Now()
	count := 0
	var some []string
	for _, c := range x.doubtful {
		r, there := table.find(appendKey(nil, c.IssuerID, c.Serial))
		if !there || !r.irrevocable(now) || !r.status().RevokedAt.Equal(c.RevokedAt) {
			continue
		}
		if count++; len(some) < maxEvidence {
			some = append(some, fmt.Sprintf("%d/%s", c.IssuerID, c.Serial))
		}
	}
	text := ""
	if count > 0 {
		text = fmt.Sprintf("correction: %d that no believed key signed, of revocations that stand: %s", count, strings.Join(some, ", "))
	}
	x.cfg.Metrics.unbelieved(count)
	x.mu.Lock()
	told := x.state.Unbelieved
	x.state.Unbelieved = text
	x.mu.Unlock()
	if text != told && text != "" {
		x.log.ErrorContext(ctx, "correction is not believed", slog.String("error", text))
	}
}
