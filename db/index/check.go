package index

import (
	"fmt"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// kind is why a snapshot is refused: one of a fixed set, the reason in the log.
type kind string

const (
	adoptable      kind = ""
	noHead         kind = "no_head"         // the head row is missing, or never existed
	unsafe         kind = "subscription"    // the rows read may be undone by a crash
	rollback       kind = "rollback"        // older than the adopted one
	divergence     kind = "divergence"      // rows and head do not match
	lostRevocation kind = "lost_revocation" // a permanent revocation would be removed
	forged         kind = "not_signed"      // the head is not the one that was signed
)

// result is why a snapshot is refused.
type result struct {
	kind kind
	text string // becomes the horizon's doubt
	sign sign
	lost []string // the first few serials whose revocation is lost: evidence
}

// sign describes a divergence. While it stays the same, reading everything again would find the
// same.
type sign struct {
	needs string      // why the changes since could not be read one by one
	off   [5]db.Tally // certificate, issuer, responder_certificate, correction, closed_pin: found minus head
}

// snapshot is the result of one read of the database, not yet checked.
type snapshot struct {
	head     db.Head
	seq      uint64 // all changes up to it are included
	started  time.Time
	received time.Time // this machine's clock before the read
	lists    *lists

	tally   db.Tally // of the certificates, once this snapshot is adopted
	all     *builder // all rows, still unsorted; nil: only changes is set
	table   *table   // the same, sorted after the database read has ended
	changes []change
	needs   string // why all rows must be read again, which has to wait

	remembered []sitedb.Remembered // new entries in the site's memory
	memory     memory              // with the snapshot, once it is checked
}

// checkHead says why a snapshot is refused, before its rows are read.
func (x *Index) checkHead(l *sitedb.ReadTx) result {
	h := l.Head
	switch {
	case x.signed.differs(h):
		return result{kind: forged, text: fmt.Sprintf("divergence: the head at position %d is not what was signed", h.Position)}
	case l.SynchronousCommit == "off":
		return result{kind: unsafe, text: "subscription: " + db.SubscriptionName + " has synchronous_commit off, so that a crash undoes rows already answered for: run ALTER SUBSCRIPTION " + db.SubscriptionName + " SET (synchronous_commit = on)"}
	case l.Parallel:
		return result{kind: unsafe, text: "subscription: " + db.SubscriptionName + " has streaming parallel, so that rows arrive before the head: run ALTER SUBSCRIPTION " + db.SubscriptionName + " SET (streaming = off)"}
	case x.fallsBehind(h):
		return result{kind: rollback, text: fmt.Sprintf("rollback: the database is at epoch %d position %d, this copy was already at epoch %d position %d; restart to accept it",
			h.Epoch, h.Position, x.held.Epoch, x.held.Position)}
	}
	return result{}
}

// check decides whether the snapshot may be adopted over the current one.
func (x *Index) check(s *snapshot) result {
	if s.needs != "" {
		return result{kind: divergence, text: "divergence: " + s.needs, sign: sign{needs: s.needs}}
	}
	v := result{}
	var found []string
	for i, t := range []struct {
		name       string
		have, want db.Tally
	}{
		{"certificate", s.tally, s.head.Certificates},
		{"issuer", s.lists.issuerTally, s.head.Issuers},
		{"responder_certificate", s.lists.responderTally, s.head.ResponderCertificates},
		{"correction", s.lists.correctionTally, s.head.Corrections},
		{"closed_pin", s.lists.closedTally, s.head.ClosedPins},
	} {
		if t.have == t.want {
			continue
		}
		v.sign.off[i] = db.Tally{Count: t.have.Count - t.want.Count, Digest: t.have.Digest - t.want.Digest}
		found = append(found, fmt.Sprintf("%s has %d rows with digest %016x, the head at position %d says %d with %016x",
			t.name, t.have.Count, uint64(t.have.Digest), s.head.Position, t.want.Count, uint64(t.want.Digest)))
	}
	if len(found) > 0 {
		v.kind, v.text = divergence, "divergence: "+strings.Join(found, "; ")
		return v
	}
	if v = x.checkAdoption(s); v.kind == adoptable {
		x.checkMemory(s)
	}
	return v
}

// maxEvidence is how many serials of lost revocations the log shows.
const maxEvidence = 5

const (
	// skewLife is how long a measurement counts. ocspsyncd measures each 30 s while
	// it reaches the master; without the master nothing is measured.
	skewLife = 10 * time.Minute
)

// clockDoubt says what is wrong with this site's clock, by ocspsyncd's measurement.
func clockDoubt(l *sitedb.ReadTx) string {
	if !l.HasSkew || l.SkewAge > skewLife || l.Skew.Abs() <= db.MaxClockSkew {
		return ""
	}
	return fmt.Sprintf("clock: this site's clock is %s off the master's", l.Skew.Round(time.Second))
}
