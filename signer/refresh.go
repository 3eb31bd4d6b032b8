package signer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
)

// responderCerts is the parsed rows of responder_certificate; rebuilt when the snapshot
// changes.
type responderCerts struct {
	rows       []db.ResponderCertificate
	candidates []*candidate           // those that were not expired
	byKey      map[[32]byte][]watched // all rows, expired ones too, by SHA-256 of SubjectPublicKeyInfo
}

// same says whether the list was made from this very snapshot. Snapshots are never modified,
// and ours cannot have been collected, so comparing the address is enough.
func (r *responderCerts) same(rows []db.ResponderCertificate) bool {
	return r != nil && len(rows) == len(r.rows) && (len(rows) == 0 || &rows[0] == &r.rows[0])
}

// newResponderCerts reads the rows; known results about a candidate are kept. A row that cannot
// be read is skipped; its error is kept.
func newResponderCerts(rows []db.ResponderCertificate, old *responderCerts, now time.Time) (*responderCerts, error) {
	next := &responderCerts{rows: rows, byKey: make(map[[32]byte][]watched)}
	known := make(map[[32]byte]*candidate)
	if old != nil {
		for _, c := range old.candidates {
			known[c.fingerprint] = c
		}
	}
	var faults []error
	for _, row := range rows {
		c := known[sha256.Sum256(row.DER)]
		if c == nil || c.row.issuer != row.IssuerID || string(c.row.serial) != string(row.Serial) {
			var err error
			if c, err = newCandidate(row); err != nil {
				faults = append(faults, fmt.Errorf("reading the row of site %q: %w", row.Site, err))
				continue
			}
		}
		next.byKey[c.spki] = append(next.byKey[c.spki], c.row)
		if now.Before(c.cert.NotAfter) {
			next.candidates = append(next.candidates, c)
		}
	}
	return next, errors.Join(faults...)
}

// Refresh reads the rows and the token again and replaces the identities. Its error says which
// pinned issuers have none; the others are still served. Run does the same each second; call
// Refresh before the first request, and after a key was made.
func (r *Responder) Refresh(ctx context.Context) error { return r.refresh(ctx, true) }

func (r *Responder) refresh(ctx context.Context, force bool) error {
	r.refreshMu.Lock()
	defer r.refreshMu.Unlock()
	now := r.now()
	horizon := r.source.Horizon()
	r.noteDoubt(ctx, horizon)
	if rows := r.source.ResponderCertificates(); !r.certs.same(rows) {
		next, err := newResponderCerts(rows, r.certs, now)
		if err != nil {
			r.log.WarnContext(ctx, "responder certificates not readable", slog.Any("error", err))
		}
		r.certs = next
	}
	issuers := r.source.Issuers()
	old := r.site.Load()
	next := &site{byID: make(map[string]*served), served: make([]*served, len(r.pins))}
	var missing []error
	for i := range r.pins {
		s := r.serve(ctx, &r.pins[i], issuers, old.served[i], horizon, now, force)
		if s.present && next.byID[s.authority.ids[0]] != nil {
			s = &served{name: r.pins[i].String(), reasons: []string{fmt.Sprintf("issuer %q is pinned twice", s.name)}}
		}
		next.served[i] = s
		if len(s.identities) == 0 {
			missing = append(missing, s.fault())
		}
		if s.present {
			for _, id := range s.authority.ids {
				next.byID[id] = s
			}
		}
	}
	r.site.Store(next)
	for i, s := range next.served {
		r.noteChange(ctx, old.served[i], s)
	}
	return errors.Join(missing...)
}

// serve prepares one pinned issuer.
func (r *Responder) serve(ctx context.Context, pin *pinned, rows []db.Issuer, old *served, h db.Horizon, now time.Time, force bool) *served {
	row, err := pin.match(rows)
	if err != nil {
		return &served{name: pin.String(), reasons: []string{err.Error()}}
	}
	s := &served{name: row.Name, present: true, id: row.ID, policy: capped(row.Policy), authority: pin.authority}
	if s.policy.ArchiveCutoff {
		s.policy.cutoff = notBefore(row.Certificate)
	}
	s.identities = r.choose(ctx, s, old, h, now, force)
	return s
}

// choose finds the identities by their keys: for each signature algorithm the newest
// certificate whose key is in the token and which passes all checks.
func (r *Responder) choose(ctx context.Context, s, old *served, h db.Horizon, now time.Time, force bool) []*Identity {
	var usable []*candidate
	for _, c := range r.certs.candidates {
		if c.row.issuer != s.id || !now.Before(c.cert.NotAfter) || !c.possess(r.keys, now, force) {
			continue
		}
		if why := r.refuse(ctx, s, c, old.serving(c), h, now); why != "" {
			s.reasons = append(s.reasons, fmt.Sprintf("certificate %x of our key is not used: %s", c.fingerprint[:8], why))
			continue
		}
		usable = append(usable, c)
	}
	var chosen []*Identity
	for _, c := range prefer(usable, s, now) {
		id, err := newIdentity(c, s.name)
		if err != nil {
			s.reasons = append(s.reasons, err.Error())
			continue
		}
		if slices.ContainsFunc(chosen, func(better *Identity) bool { return string(better.algorithm) == string(id.algorithm) }) {
			continue
		}
		watch := r.certs.byKey[c.spki]
		if current := old.serving(c); current != nil {
			current.watch.Store(&watch)
			chosen = append(chosen, current)
			continue
		}
		id.watch.Store(&watch)
		id.judged.Store(&position{h.Epoch, h.Position})
		if now.Sub(c.failed) >= retryAfter || force {
			if err := r.selfTest(ctx, id); err == nil {
				chosen = append(chosen, id)
				continue
			}
			c.failed = now
		}
		s.reasons = append(s.reasons, fmt.Sprintf("certificate %x of our key is not used: its self-test fails", c.fingerprint[:8]))
	}
	return chosen
}

// serving returns the identity of the candidate that is in use now, or nil.
func (s *served) serving(c *candidate) *Identity {
	for _, id := range s.identities {
		if id.serves(c) {
			return id
		}
	}
	return nil
}

// prefer sorts usable certificates into the order in which they are tried: the newest first,
// but one younger than an hour only after those that are older and still valid for an hour,
// since clients with slow clocks do not accept it yet.
//
// Of several keys the default is the one of the CA's own kind. That is mechanism 2 of RFC 6960
// section 4.4.7.2, the algorithm of the issuer's CRLs, which the CA signs itself: a client that
// verified the path to the CA supports it.
func prefer(usable []*candidate, s *served, now time.Time) []*candidate {
	margin := s.policy.signerMargin()
	order := func(c *candidate) int {
		switch {
		case now.Sub(c.cert.NotBefore) >= settleTime && c.cert.NotAfter.Sub(now) > margin:
			return 0
		case now.Sub(c.cert.NotBefore) < settleTime:
			return 1
		}
		return 2 // near its end
	}
	foreign := func(c *candidate) int {
		if c.cert.PublicKeyAlgorithm == s.authority.cert.PublicKeyAlgorithm {
			return 0
		}
		return 1
	}
	slices.SortFunc(usable, func(a, b *candidate) int {
		return cmp.Or(
			cmp.Compare(order(a), order(b)),
			cmp.Compare(foreign(a), foreign(b)),
			b.cert.NotBefore.Compare(a.cert.NotBefore),
			b.cert.NotAfter.Compare(a.cert.NotAfter),
			slices.Compare(a.fingerprint[:], b.fingerprint[:]))
	})
	return usable
}

// refuse says why a certificate whose key is in the token may not be used, or "".
func (r *Responder) refuse(ctx context.Context, s *served, c *candidate, current *Identity, h db.Horizon, now time.Time) string {
	if err := c.check(s.authority); err != nil {
		return err.Error()
	}
	if now.Before(c.cert.NotBefore) {
		return "it is not yet valid"
	}
	if s.policy.Profile == db.ProfileBR && c.cert.NotAfter.Sub(now) < minValidityBR {
		return "it ends in less than 8 h, and BR 4.9.10 wants that from every answer"
	}
	if _, banned := r.banned.Load(c.spki); banned {
		return string(refusalCompromised)
	}
	serving := current.serves(c)
	v, err := checkKey(ctx, r.source, c.row, r.certs.byKey[c.spki], serving && h.Doubt != "")
	if err != nil {
		if serving { // nothing new is known, and its answers are tryLater until then
			return ""
		}
		return "the copy could not be asked for its status"
	}
	if v != "" && serving {
		r.stop(ctx, current, v)
	}
	if v == refusalCompromised {
		r.banned.Store(c.spki, struct{}{})
	}
	return string(v)
}

// confirm says whether id may sign the copy's status at the horizon h. The rows of id are
// checked again whenever the copy has moved since the last check.
func (r *Responder) confirm(ctx context.Context, id *Identity, h db.Horizon, now time.Time) (bool, error) {
	if id == nil || id.stopped.Load() || !id.inTime(now) {
		return false, nil
	}
	here := position{h.Epoch, h.Position}
	if at := id.judged.Load(); at != nil && *at == here {
		return true, nil
	}
	v, err := checkKey(ctx, r.source, id.row, *id.watch.Load(), h.Doubt != "")
	if err != nil {
		return false, err
	}
	if v == "" && h.Doubt == "" && !id.among(r.source.ResponderCertificates()) {
		v = refusalWithheld
	}
	if v != "" {
		r.stop(ctx, id, v)
		return false, nil
	}
	id.judged.Store(&here)
	return true, nil
}

// among says whether the certificate is still among the rows: the master withholds a removed
// one from this site. Rows that were searched once are not searched again.
func (id *Identity) among(rows []db.ResponderCertificate) bool {
	if len(rows) > 0 && id.listed.Load() == &rows[0] {
		return true
	}
	for i := range rows {
		if rows[i].IssuerID == id.row.issuer && string(rows[i].Serial) == string(id.row.serial) {
			id.listed.Store(&rows[0])
			return true
		}
	}
	return false
}

// stop ends an identity by itself. This is hygiene, not a defence: an attacker who controls the
// site would ignore it. keyCompromise stops every identity with that key for ever.
func (r *Responder) stop(ctx context.Context, id *Identity, why refusal) {
	if why == refusalCompromised {
		r.banned.Store(id.spki, struct{}{})
	}
	if id.stopped.Swap(true) {
		return
	}
	r.cache.empty()
	r.log.ErrorContext(ctx, "signing identity stopped itself", slog.String("issuer", id.issuer),
		slog.String("certificate", id.name()), slog.String("reason", string(why)))
	select {
	case r.wake <- struct{}{}: // an older certificate may take over
	default:
	}
}

// noteChange logs each change of an identity once, and empties the cache when an identity is
// gone.
func (r *Responder) noteChange(ctx context.Context, old, s *served) {
	reasons := strings.Join(s.reasons, "; ")
	for _, is := range s.identities {
		if !slices.Contains(old.identities, is) {
			r.log.InfoContext(ctx, "signing identity adopted", slog.String("issuer", s.name), slog.String("certificate", is.name()),
				slog.Time("not_before", is.cert.NotBefore), slog.Time("not_after", is.end))
		}
	}
	lost := false
	for _, was := range old.identities {
		replaced := slices.ContainsFunc(s.identities, func(is *Identity) bool { return string(is.algorithm) == string(was.algorithm) })
		if replaced || was.stopped.Load() {
			continue
		}
		lost = true
		r.cache.empty()
		r.log.ErrorContext(ctx, "signing identity lost", slog.String("issuer", s.name), slog.String("certificate", was.name()),
			slog.String("reasons", reasons))
	}
	if len(s.identities) == 0 && !lost && reasons != "" && reasons != strings.Join(old.reasons, "; ") {
		r.log.WarnContext(ctx, "no signing identity", slog.String("issuer", s.name), slog.String("reasons", reasons))
	}
}

// fault says why a pinned issuer has no identity.
func (s *served) fault() error {
	why := strings.Join(s.reasons, "; ")
	if why == "" {
		why = "no current certificate of a key in the token"
	}
	return fmt.Errorf("issuer %q has no signing identity: %s", s.name, why)
}
