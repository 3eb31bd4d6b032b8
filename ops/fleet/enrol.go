package fleet

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"ocspfleet/db"
)

// Enrol issues one responder certificate: the key is looked up among the
// banned, the serial registered, then the certificate signed and put among the
// replicated rows. The site must be on the roster. What breaks off in between
// leaves a registered serial without a certificate, which harms nobody.
func Enrol(ctx context.Context, store *db.Store, a *Authority, r *Request, life time.Duration, now time.Time, random io.Reader, act db.Act) (db.ResponderCertificate, error) {
	fail := func(err error) (db.ResponderCertificate, error) {
		return db.ResponderCertificate{}, fmt.Errorf("enrolling site %q for issuer %q: %w", r.Site, a.Issuer.Name, err)
	}
	if err := store.CheckResponderKey(ctx, r.KeyHash, r.Site); err != nil {
		return fail(err)
	}
	t, err := a.Template(r, life, now, random)
	if err != nil {
		return fail(err)
	}
	serial := db.SerialFromMagnitude(t.SerialNumber.Bytes(), false)
	fresh, err := store.Issue(ctx, a.Issuer.ID, serial, t.NotAfter, act)
	if err != nil {
		return fail(err)
	}
	if !fresh { // 2^-127 by chance: the source of randomness is broken
		return fail(fmt.Errorf("serial %s was drawn a second time", serial))
	}
	der, err := a.Sign(t, r, now, random)
	if err != nil {
		return fail(err)
	}
	c := db.ResponderCertificate{
		Fingerprint: sha256.Sum256(der), IssuerID: a.Issuer.ID, Serial: serial, Site: r.Site, KeyHash: r.KeyHash, DER: der,
	}
	if err := store.AddResponderCertificate(ctx, c, act); err != nil {
		return fail(err)
	}
	return c, nil
}
