package signer

import (
	"time"

	"ocspfleet/db"
	"ocspfleet/signer/wire"
)

// Class is what an answer says: a closed set, and the label of
// ocspd_responses_total.
type Class uint8

// The classes. The zero value is InternalError, so that a forgotten field never
// says good.
const (
	InternalError Class = iota
	Good
	Revoked
	Unknown
	Malformed
	Unauthorized
	TryLater
	classes // how many there are
)

var classNames = [classes]string{
	Good: "good", Revoked: "revoked", Unknown: "unknown", Malformed: "malformed",
	Unauthorized: "unauthorized", TryLater: "try_later", InternalError: "internal_error",
}

// String returns the label.
func (c Class) String() string {
	if c < classes {
		return classNames[c]
	}
	return classNames[InternalError]
}

// Signed says whether an answer of this class carries a signature.
func (c Class) Signed() bool { return c == Good || c == Revoked || c == Unknown }

// status is the CertStatus of a signed class.
func (c Class) status() wire.CertStatus {
	switch c {
	case Good:
		return wire.StatusGood
	case Revoked:
		return wire.StatusRevoked
	}
	return wire.StatusUnknown
}

// Caps on what a policy may ask for: a policy is data from the master.
const (
	maxValidity     = 10 * 24 * time.Hour
	defaultValidity = 72 * time.Hour
	maxBackdate     = time.Hour

	// A serial that was never issued may be issued at any moment: the answer is
	// short-lived. BR 4.9.10 wants at least 8 h from every answer.
	absentLife   = 15 * time.Minute
	absentMaxAge = 60 * time.Second

	// settleTime is how long a new certificate is not used while an older one serves: for
	// clients with slow clocks it is not yet valid.
	settleTime = time.Hour
)

// policy is an issuer's policy within our caps.
type policy struct {
	db.Policy
	cutoff time.Time // archiveCutoff of the answers; zero: none
}

// capped returns the policy within our caps.
func capped(p db.Policy) policy {
	if p.Validity <= 0 {
		p.Validity = defaultValidity
	}
	p.Validity = min(p.Validity, maxValidity)
	// At most half of the validity, so that nextUpdate is always in the future.
	p.Backdate = max(0, min(p.Backdate, maxBackdate, p.Validity/2))
	if p.MaxStaleness <= 0 {
		p.MaxStaleness = p.Validity / 2
	}
	p.MaxStaleness = min(p.MaxStaleness, p.Validity)
	if p.Profile == db.ProfileBR {
		p.Validity = min(max(p.Validity, minValidityBR), maxValidityBR)
		p.MaxStaleness = min(p.MaxStaleness, db.RenewalBR(p.Validity)-p.Backdate)
	}
	p.FreshForUnknown = max(0, min(p.FreshForUnknown, p.MaxStaleness))
	p.Refresh = max(0, p.Refresh)
	p.HTTPMaxAge = max(0, min(p.HTTPMaxAge, p.Validity/2)).Truncate(time.Second)
	return policy{Policy: p}
}

// decision is the answer for one CertID.
type decision struct {
	class      Class
	revokedAt  time.Time // with class Revoked
	reason     db.Reason // with class Revoked
	extended   bool      // revoked because never issued: needs the extended-revoke extension
	badHold    bool      // unauthorized because an issuer of profile br has a certificate on hold
	thisUpdate time.Time
	nextUpdate time.Time
	cutoff     time.Time     // archiveCutoff, zero: none
	maxAge     time.Duration // how long HTTP caches may keep the answer, whole seconds
	slack      time.Duration // how far behind thisUpdate a cached signature may lie
	lookedUp   bool          // at the master, for this request: its signature is not cached
	br         bool          // the rules of BR 4.9.10 bind the answer when it is sent
}

// copyStatus is what the copy returned for one CertID.
type copyStatus struct {
	issued  bool
	status  db.Status
	horizon db.Horizon
}

// decide is the decision table. The policy is capped; signerEnd is the notAfter of the identity
// that would sign, zero when there is none; now is in whole seconds. decide is pure: no clock,
// no I/O.
func decide(p policy, f copyStatus, signerEnd, now time.Time) decision {
	if !now.Before(signerEnd) {
		return decision{class: Unauthorized}
	}
	h, age := f.horizon, f.horizon.Age(now)
	// thisUpdate is the most recent time at which the status is known to have been correct (RFC
	// 6960 section 2.4): the horizon, not now, and never in the future.
	known := earlier(h.AsOf, now).Truncate(time.Second).Add(-p.Backdate)
	switch {
	case f.issued && f.status.Permanent():
		// A permanent revocation never ends, however old and doubtful the copy is. While the
		// copy may say good, this answer has the same times as good would: our clock may be
		// wrong. After that, or if such an answer would be past its end, its thisUpdate is now.
		if d := p.signed(revoked(f.status, now), known, p.Validity, signerEnd, now); age <= p.MaxStaleness && d.class == Revoked {
			return d
		}
		return p.signed(revoked(f.status, now), now.Add(-p.Backdate), p.Validity, signerEnd, now)

	case f.issued && f.status.Revoked:
		// On hold. An old or doubtful copy may have missed the release, but revoked is the safe
		// answer; it lasts as long as the policy promises.
		if !p.KnowsHold() {
			return decision{class: Unauthorized, badHold: true}
		}
		return p.signed(revoked(f.status, now), known, p.Validity, signerEnd, now)

	case h.Doubt != "" || h.AsOf.After(now.Add(db.MaxClockSkew)):
		return decision{class: TryLater} // a fault of this site, which may be temporary

	case age > p.MaxStaleness:
		return decision{class: Unauthorized} // RFC 9919 section 3.2.3: no authoritative records available

	case f.issued:
		return p.signed(decision{class: Good}, known, p.Validity, signerEnd, now)

	case age > p.FreshForUnknown:
		return decision{class: Unauthorized} // the serial may have been issued since

	default:
		return p.absent(known, signerEnd, now)
	}
}

// absent decides for a serial that was never issued.
func (p policy) absent(known, signerEnd, now time.Time) decision {
	d := decision{class: Unauthorized}
	switch p.NeverIssued {
	case db.NeverIssuedUnknown:
		d = decision{class: Unknown}
	case db.NeverIssuedRevoked:
		if !p.KnowsHold() {
			return d
		}
		// RFC 6960 section 2.2: certificateHold, since 1970, and the extension.
		d = decision{class: Revoked, revokedAt: time.Unix(0, 0).UTC(), reason: db.ReasonCertificateHold, extended: true}
	default:
		return d
	}
	life := absentLife
	if p.Profile == db.ProfileBR {
		life = minValidityBR
	}
	d = p.signed(d, known, now.Add(life).Sub(known), signerEnd, now)
	d.maxAge, d.cutoff = min(d.maxAge, absentMaxAge), time.Time{}
	return d
}

// signed sets the times of a decision. No answer is valid longer than its signer's certificate
// (caches kept answers of an expired one), and none is sent when its nextUpdate is past.
func (p policy) signed(d decision, thisUpdate time.Time, life time.Duration, signerEnd, now time.Time) decision {
	d.thisUpdate = thisUpdate
	d.nextUpdate = earlier(thisUpdate.Add(life), signerEnd).Truncate(time.Second)
	d.br, d.cutoff = p.Profile == db.ProfileBR, p.cutoff
	if !d.nextUpdate.After(now) || (d.br && !sendableBR(d.thisUpdate, d.nextUpdate, now)) {
		return decision{class: Unauthorized}
	}
	d.maxAge = maxAge(p.HTTPMaxAge, d.nextUpdate, now)
	// A quarter of the life at most, for short-lived answers: BR 4.9.10 wants
	// them renewed before half of it is left.
	d.slack = min(p.Refresh, d.nextUpdate.Sub(d.thisUpdate)/4)
	return d
}

// maxAge is how long HTTP caches may keep an answer: at most limit, and it ends before
// nextUpdate (RFC 9919 section 7.2).
func maxAge(limit time.Duration, nextUpdate, now time.Time) time.Duration {
	return max(0, min(limit, nextUpdate.Sub(now)-time.Second))
}

// revoked is the decision for a revoked certificate. revocationTime must not be
// later than producedAt: the master's clock may be up to 5 minutes ahead of ours
// when it writes the row, so the time is cut to now.
func revoked(st db.Status, now time.Time) decision {
	return decision{class: Revoked, revokedAt: earlier(st.RevokedAt, now), reason: st.Reason}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
