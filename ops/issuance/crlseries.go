package issuance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/certprofile"
)

// BundledCRL is one CRL of a series that an offline CA signs ahead. All of a series name the same
// certificates.
type BundledCRL struct {
	Number     int64     `json:"number"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	CRL        string    `json:"crl"` // PEM; empty until it is signed
}

// BundledEntry is one revoked responder certificate.
type BundledEntry struct {
	Serial    string    `json:"serial"` // hex
	RevokedAt time.Time `json:"revoked_at"`
	Reason    string    `json:"reason"`    // a name of RFC 5280; empty: none was given
	NotAfter  time.Time `json:"not_after"` // until then it stays on the CA's CRLs
}

// CRLEvery is the default time from one CRL of a series to the next: more than half of CRLLife is
// left then, and half a day for the timer that publishes it.
const CRLEvery = 3 * 24 * time.Hour

// checkCRLs says what is wrong with a series of CRLs.
func (s Series) checkCRLs(policy db.Policy) error {
	switch {
	case s.Count < 1 || s.Count > maxSeries:
		return fmt.Errorf("a series of %d: want 1 to %d", s.Count, maxSeries)
	case s.Every < time.Hour || s.Every > s.Life-time.Hour:
		return fmt.Errorf("one every %s with a life of %s: want 1h or more, and each to begin 1h before the last one ends", s.Every, s.Life)
	}
	return CheckCRLLife(s.Life, policy)
}

// DraftCRLs reads the content of a series of CRLs for an offline CA from the master: all with the
// same entries, at successive times. They have no numbers yet. The position is the head's at that
// moment.
func DraftCRLs(ctx context.Context, store *masterdb.DB, issuer db.Issuer, s Series) ([]CRLContent, int64, error) {
	if err := s.checkCRLs(issuer.Policy); err != nil {
		return nil, 0, fmt.Errorf("drafting the CRLs of issuer %q: %w", issuer.Name, err)
	}
	first, position, err := DraftCRL(ctx, store, issuer, false, s.Life)
	if err != nil {
		return nil, 0, err
	}
	list := make([]CRLContent, s.Count)
	for i := range list {
		list[i] = first
		list[i].ThisUpdate = first.ThisUpdate.Add(time.Duration(i) * s.Every)
		list[i].NextUpdate = list[i].ThisUpdate.Add(s.Life)
	}
	return list, position, nil
}

// BundleCRLs makes a bundle of numbered CRLs for the CA, and returns what the master must store of
// them (masterdb.Sites.PlanCRLs).
func (a *Authority) BundleCRLs(list []CRLContent, position int64, denied Denied) (Bundle, []masterdb.PlannedCRL) {
	b := a.Bundle([]BundledCert{}, denied)
	var planned []masterdb.PlannedCRL
	for i, c := range list {
		if i == 0 {
			for _, e := range c.Entries {
				b.Revoked = append(b.Revoked, BundledEntry{e.Serial.String(), e.Status.RevokedAt, e.Status.Reason.String(), e.Status.NotAfter})
			}
		}
		b.CRLs = append(b.CRLs, BundledCRL{Number: c.Number, ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate})
		planned = append(planned, masterdb.PlannedCRL{
			Number: c.Number, Position: position, ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate, Content: c.sum(), Entries: len(c.Entries),
		})
	}
	return b, planned
}

// sum returns the SHA-256 of all content of a CRL, by which the master recognises it.
func (c CRLContent) sum() [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "CRL %d %d %d %q\n", c.Number, c.ThisUpdate.Unix(), c.NextUpdate.Unix(), c.URL)
	entries := slices.SortedFunc(slices.Values(c.Entries), func(a, b masterdb.CRLEntry) int { return bytes.Compare(a.Serial, b.Serial) })
	for _, e := range entries {
		fmt.Fprintf(h, "%x %d %d\n", []byte(e.Serial), e.Status.RevokedAt.Unix(), max(0, int(e.Status.Reason)))
	}
	return [32]byte(h.Sum(nil))
}

// entries reads the revoked certificates of a bundle.
func (b *Bundle) entries() ([]masterdb.CRLEntry, error) {
	var list []masterdb.CRLEntry
	for _, e := range b.Revoked {
		serial, err := db.ParseSerial(e.Serial)
		if err != nil {
			return nil, err
		}
		reason := db.ReasonNone
		if e.Reason != "" {
			if reason, err = db.ParseReason(e.Reason); err != nil {
				return nil, fmt.Errorf("certificate %s: %w", e.Serial, err)
			}
		}
		switch {
		case e.NotAfter.IsZero():
			return nil, fmt.Errorf("certificate %s: not_after is missing", e.Serial)
		case e.RevokedAt.IsZero():
			return nil, fmt.Errorf("certificate %s: revoked_at is missing", e.Serial)
		}
		list = append(list, masterdb.CRLEntry{Serial: serial, Status: db.Status{Revoked: true, RevokedAt: e.RevokedAt, Reason: reason, NotAfter: e.NotAfter}})
	}
	return list, nil
}

// crlsOf reads the CRLs that a bundle requests. None may begin later than ahead from now.
func (b *Bundle) crlsOf(ahead time.Duration, now time.Time) ([]CRLContent, error) {
	entries, err := b.entries()
	if err != nil {
		return nil, fmt.Errorf("reading the revoked certificates of the bundle: %w", err)
	}
	var list []CRLContent
	var last BundledCRL
	for _, c := range b.CRLs {
		fail := func(err error) ([]CRLContent, error) { return nil, fmt.Errorf("CRL %d: %w", c.Number, err) }
		switch life := c.NextUpdate.Sub(c.ThisUpdate); {
		case c.Number <= last.Number || !c.ThisUpdate.After(last.ThisUpdate):
			return fail(errors.New("the numbers or the times do not grow"))
		case life <= 0 || life > MaxCRLLife:
			return fail(fmt.Errorf("it lives %s: want %s at most", life, MaxCRLLife))
		case c.ThisUpdate.After(now.Add(ahead)):
			return fail(fmt.Errorf("it begins at %s: this CA signs %s ahead at most", c.ThisUpdate.Format(time.RFC3339), ahead))
		case !c.NextUpdate.After(now):
			return fail(fmt.Errorf("it ended at %s", c.NextUpdate.Format(time.RFC3339)))
		}
		list = append(list, CRLContent{c.Number, c.ThisUpdate, c.NextUpdate, entries, b.CRLURL})
		last = c
	}
	return list, nil
}

// CheckCRLs says why the CA must not sign the CRLs of a bundle.
func (a *Authority) CheckCRLs(b *Bundle, ahead time.Duration, now time.Time) error {
	if len(b.CRLs) == 0 {
		return nil
	}
	list, err := b.crlsOf(ahead, now)
	if err == nil {
		err = a.checkCRL(list[0])
	}
	if err != nil {
		return fmt.Errorf("judging the CRLs of the bundle: %w", err)
	}
	return nil
}

// SignCRLs signs the CRLs of a bundle: all or nothing.
func (a *Authority) SignCRLs(b *Bundle, ahead time.Duration, now time.Time, random io.Reader) error {
	if len(b.CRLs) == 0 {
		return nil
	}
	list, err := b.crlsOf(ahead, now)
	if err != nil {
		return fmt.Errorf("judging the CRLs of the bundle: %w", err)
	}
	signed, err := a.signCRLs(list, random)
	if err != nil {
		return fmt.Errorf("signing the CRLs of the bundle: %w", err)
	}
	for i, der := range signed {
		b.CRLs[i].CRL = string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	}
	return nil
}

// readCRL reads a CRL that this CA signed for the issuer's distribution point, and no other.
func (a *Authority) readCRL(der []byte) (CRLContent, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return CRLContent{}, err
	}
	keyID, err := certprofile.AuthorityKeyID(a.Certificate)
	if err != nil {
		return CRLContent{}, err
	}
	idp, err := idpOf(a.Issuer.Policy.CRLURL)
	if err != nil {
		return CRLContent{}, err
	}
	var scope []byte
	for _, e := range list.Extensions {
		if e.Id.Equal(oidIDP) && e.Critical {
			scope = e.Value
		}
	}
	switch {
	case !bytes.Equal(list.Raw, der):
		return CRLContent{}, errors.New("it is followed by other octets")
	case !bytes.Equal(list.RawIssuer, a.Certificate.RawSubject) || !bytes.Equal(list.AuthorityKeyId, keyID):
		return CRLContent{}, errors.New("it is another CA's")
	case !slices.Contains(certprofile.SignatureAlgorithms, list.SignatureAlgorithm):
		return CRLContent{}, fmt.Errorf("it is signed with %s", list.SignatureAlgorithm)
	case a.Certificate.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature) != nil:
		return CRLContent{}, errors.New("it does not bear the CA's signature")
	case len(list.Extensions) != 3 || !bytes.Equal(scope, idp): // besides it the number and the key identifier
		return CRLContent{}, fmt.Errorf("its distribution point is not %q, as the issuer's is now", a.Issuer.Policy.CRLURL)
	case list.Number == nil || !list.Number.IsInt64():
		return CRLContent{}, errors.New("its number is none of the master's")
	}
	c := CRLContent{Number: list.Number.Int64(), ThisUpdate: list.ThisUpdate.UTC(), NextUpdate: list.NextUpdate.UTC(), URL: a.Issuer.Policy.CRLURL}
	for _, e := range list.RevokedCertificateEntries {
		c.Entries = append(c.Entries, masterdb.CRLEntry{
			Serial: db.SerialFromMagnitude(e.SerialNumber.Bytes(), e.SerialNumber.Sign() < 0),
			Status: db.Status{Revoked: true, RevokedAt: e.RevocationTime.UTC(), Reason: db.Reason(e.ReasonCode)},
		})
	}
	return c, nil
}

// CRLRelease is the result for one CRL of a bundle that came back.
type CRLRelease struct {
	Number                 int64
	ThisUpdate, NextUpdate time.Time
	Action                 string // published, there, waiting, past or ended
}

// ReleaseCRL publishes the newest CRL of a signed bundle whose time has come, unless it, or a
// newer one, is published already; without apply it only reports. Each must have exactly the
// planned content and the CA's signature. It returns the published CRL; nil: none.
func (a *Authority) ReleaseCRL(ctx context.Context, store *masterdb.DB, b *Bundle, apply bool, now time.Time, act db.Act) ([]CRLRelease, []byte, error) {
	if err := b.check(a); err != nil {
		return nil, nil, err
	}
	planned, err := store.PlannedCRLs(ctx, a.Issuer.ID)
	if err != nil {
		return nil, nil, err
	}
	published, current := int64(0), a.Issuer.CRL
	if len(current) > 0 {
		list, err := x509.ParseRevocationList(current)
		if err != nil || !list.Number.IsInt64() {
			return nil, nil, fmt.Errorf("reading the published CRL of issuer %q: %w", a.Issuer.Name, err)
		}
		published = list.Number.Int64()
	}
	var releases []CRLRelease
	var due crlDue
	for _, c := range b.CRLs {
		one := CRLRelease{c.Number, c.ThisUpdate, c.NextUpdate, "waiting"}
		found, err := a.planned(c, published, planned)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("releasing CRL %d: %w", c.Number, err)
		case c.Number == published:
			one.Action = "there"
		case c.Number < published:
			one.Action = "past"
		case !c.NextUpdate.After(now):
			one.Action = "ended"
		case !c.ThisUpdate.After(now):
			for j := range releases {
				releases[j].Action = "past"
			}
			one.Action, due = "published", found
		}
		releases = append(releases, one)
	}
	if due.der == nil {
		return releases, current, nil
	}
	if apply {
		err = store.PutCRL(ctx, a.Issuer.ID, due.plan.Number, due.plan.Position, due.der, due.entries, act)
	}
	return releases, due.der, err
}

// crlDue is a CRL to be published.
type crlDue struct {
	plan    masterdb.PlannedCRL
	entries int
	der     []byte
}

// planned checks a CRL that is not past against what was planned under its number.
func (a *Authority) planned(c BundledCRL, published int64, planned []masterdb.PlannedCRL) (crlDue, error) {
	if c.Number <= published {
		return crlDue{}, nil
	}
	at := slices.IndexFunc(planned, func(p masterdb.PlannedCRL) bool { return p.Number == c.Number })
	if at < 0 {
		return crlDue{}, errors.New("this master has not planned it, or was restored since from a backup: draw up a new bundle (ocspctl crl bundle)")
	}
	block, _ := pem.Decode([]byte(c.CRL))
	if block == nil {
		return crlDue{}, errors.New("it is not signed yet: ocspctl ca-sign")
	}
	content, err := a.readCRL(block.Bytes)
	if err != nil {
		return crlDue{}, err
	}
	if content.sum() != planned[at].Content || !c.ThisUpdate.Equal(content.ThisUpdate) || !c.NextUpdate.Equal(content.NextUpdate) {
		return crlDue{}, errors.New("it does not say what was planned under this number")
	}
	return crlDue{entries: len(content.Entries), plan: planned[at], der: block.Bytes}, nil
}

// ElsewhereCRL says that a CRL covers another distribution point than the issuer's crl_url, which
// was changed, or removed, since.
func ElsewhereCRL(list *x509.RevocationList, issuer db.Issuer) bool {
	idp, err := idpOf(issuer.Policy.CRLURL)
	return err == nil && slices.ContainsFunc(list.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(oidIDP) && !bytes.Equal(e.Value, idp)
	})
}

// CRLGaps compares a published CRL with the master's rows: missing are revoked certificates, not
// expired, that it does not name; back are those that it names although they are no longer revoked
// (a hold that was released).
func CRLGaps(ctx context.Context, store *masterdb.DB, issuer db.Issuer, der []byte, now time.Time) (missing, back []db.Serial, err error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the CRL of issuer %q: %w", issuer.Name, err)
	}
	full := !slices.ContainsFunc(list.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidIDP) })
	rows, err := store.CRLRows(ctx, issuer.ID, full, now)
	if err != nil {
		return nil, nil, err
	}
	named := map[string]bool{}
	for _, e := range list.RevokedCertificateEntries {
		named[string(db.SerialFromMagnitude(e.SerialNumber.Bytes(), false))] = true
	}
	for _, e := range rows.Entries {
		if !named[string(e.Serial)] {
			missing = append(missing, e.Serial)
		}
		delete(named, string(e.Serial))
	}
	for serial := range named {
		status, err := store.Certificate(ctx, issuer.ID, db.Serial(serial))
		if err != nil && !errors.Is(err, db.ErrNotIssued) {
			return nil, nil, err
		}
		if err == nil && !status.Revoked {
			back = append(back, db.Serial(serial))
		}
	}
	return missing, back, nil
}
