package issuance

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// Enrol issues one responder certificate if CA key and master are both at hand. It works like a
// bundle: a serial is made and added to the master's pool, the certificate is planned with it,
// then signed, once, and added to the replicated rows. The site must be on the roster. An
// interruption leaves a registered serial without a certificate, which does no harm.
func Enrol(ctx context.Context, store *masterdb.DB, a *Authority, r *Request, life time.Duration, now time.Time, random io.Reader, act db.Act) (db.ResponderCertificate, error) {
	fail := func(err error) (db.ResponderCertificate, error) {
		return db.ResponderCertificate{}, fmt.Errorf("enrolling site %q for issuer %q: %w", r.Site, a.Issuer.Name, err)
	}
	if err := store.CheckResponderKey(ctx, r.KeyHash, r.Site); err != nil {
		return fail(err)
	}
	if err := a.learn(ctx, store); err != nil {
		return fail(err)
	}
	if err := a.admit(r, now); err != nil {
		return fail(err)
	}
	notBefore, notAfter, err := a.Span(life, now)
	if err != nil {
		return fail(err)
	}
	serials, err := a.State.makeSerials(1, random)
	if err != nil {
		return fail(err)
	}
	if _, err := store.AddSerials(ctx, a.Issuer.ID, serials, act); err != nil {
		return fail(err)
	}
	plan := []masterdb.Planned{{IssuerID: a.Issuer.ID, Serial: serials[0], Site: r.Site, KeyHash: r.KeyHash, NotBefore: notBefore, NotAfter: notAfter}}
	if err := store.PlanResponderCertificates(ctx, plan, nil, act); err != nil {
		return fail(err)
	}
	t, err := a.template(r, serials[0], notBefore, notAfter)
	if err != nil {
		return fail(err)
	}
	if err := a.State.take([]wish{{r, serials[0], notAfter}}, a.longest(), now); err != nil {
		return fail(err)
	}
	der, err := a.Sign(t, r, now, random)
	if err != nil {
		return fail(err)
	}
	c := db.ResponderCertificate{
		Fingerprint: sha256.Sum256(der), IssuerID: a.Issuer.ID, Serial: serials[0], Site: r.Site, KeyHash: r.KeyHash, DER: der,
	}
	if err := store.AddResponderCertificate(ctx, c, act); err != nil {
		return fail(err)
	}
	return c, nil
}
