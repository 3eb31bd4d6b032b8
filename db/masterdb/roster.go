package masterdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// ErrNoResponder says that no site of that name is on the roster.
var ErrNoResponder = errors.New("no such site on the roster")

// Responder is one site on the master's roster. The roster is not replicated.
type Responder struct {
	Name         string // also the commonName of its certificate request
	URL          string // of its OCSP responder
	Addresses    []string
	State        db.ResponderState
	FeedPin      []byte // SHA-256 of its feed key's SubjectPublicKeyInfo; nil: it does not fetch the feed
	CreatedAt    time.Time
	Certificates []RosterCertificate // by issuer, the longest-lived last
}

// RosterCertificate is a responder certificate with its status at the master.
type RosterCertificate struct {
	db.ResponderCertificate
	Status db.Status
	// Withheld says that it is withheld from the site, which is suspended, or was revoked while
	// suspended: profile br allows no hold.
	Withheld bool
}

// RevokedCertificate is one certificate that was revoked with its site.
type RevokedCertificate struct {
	IssuerID db.IssuerID
	Serial   db.Serial
	Changed  bool // false: it was revoked already
}

// AddResponder adds a site to the roster, or changes its address there. It returns false if
// nothing had to change. A revoked site is refused. Nil addresses mean the present ones.
func (s *Sites) AddResponder(ctx context.Context, name, url string, addresses []string, act db.Act) (bool, error) {
	return pg.Value[bool](ctx, s.pool, fmt.Sprintf("adding site %q", name), "select responder_add($1, $2, $3, $4, $5)", name, url, addresses, act.Why, act.User)
}

// AddResponderCertificate adds a signed responder certificate to the replicated rows. Its serial
// must be registered (Issue), its key must belong to no other site and to no revoked one. The
// database computes Fingerprint.
func (s *Sites) AddResponderCertificate(ctx context.Context, c db.ResponderCertificate, act db.Act) error {
	return s.pool.Do(ctx, fmt.Sprintf("adding responder certificate %s of site %q", c.Serial, c.Site), "select responder_certificate_add($1, $2, $3, $4, $5, $6, $7)",
		c.IssuerID, []byte(c.Serial), c.Site, c.KeyHash[:], c.DER, act.Why, act.User)
}

// CheckResponderKey says why a key (SHA-256 of its SubjectPublicKeyInfo) must not be certified for
// the site: it belongs to another site, or to one that was revoked or left. Callers use it before
// a signature is made; AddResponderCertificate enforces it.
func (s *Sites) CheckResponderKey(ctx context.Context, keyHash [32]byte, site string) error {
	var owner string
	var banned bool
	err := s.pool.QueryRow(ctx, "select site, banned from responder_key where key_hash = $1", keyHash[:]).Scan(&owner, &banned)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("looking for key %x: %w", keyHash, pg.Plain(err))
	case banned:
		return fmt.Errorf("key %x belonged to site %q, which was revoked or left: it is never enrolled again (make a new one: ocspctl key generate)", keyHash, owner)
	case owner != site:
		return fmt.Errorf("key %x is enrolled by site %q already (every site has its own: ocspctl key generate)", keyHash, owner)
	}
	return nil
}

// RevokeResponder revokes all unexpired certificates of a site and bans its
// keys for ever, in one transaction.
func (s *Sites) RevokeResponder(ctx context.Context, site string, reason db.Reason, act db.Act) ([]RevokedCertificate, error) {
	return s.siteCertificates(ctx, "revoking", site, "responder_revoke($1, $2, $3, $4)", db.ReasonArg(reason), act.Why, act.User)
}

// Responders reads the roster by name, including revoked sites and expired certificates.
func (s *Sites) Responders(ctx context.Context) ([]Responder, error) {
	var sites []Responder
	// One snapshot: a certificate enrolled between two reads would have no site.
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "select name, url, addresses, state, feed_key_pin, created_at from responder order by name")
		if err != nil {
			return err
		}
		sites, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Responder, error) {
			var r Responder
			err := row.Scan(&r.Name, &r.URL, &r.Addresses, &r.State, &r.FeedPin, &r.CreatedAt)
			r.CreatedAt = r.CreatedAt.UTC()
			return r, err
		})
		if err != nil {
			return err
		}
		return readRosterCertificates(ctx, tx, sites)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the roster: %w", pg.Plain(err))
	}
	return sites, nil
}

// readRosterCertificates adds the responder certificates to their sites.
func readRosterCertificates(ctx context.Context, tx pgx.Tx, sites []Responder) error {
	places := make(map[string]int, len(sites))
	for i, site := range sites {
		places[site.Name] = i
	}
	rows, err := tx.Query(ctx, `select r.fingerprint, r.issuer_id, r.serial, r.site, r.key_hash, r.der, c.not_after, c.revoked_at, c.reason, r.withheld
		from (select *, false as withheld from responder_certificate union all select *, true from responder_withheld) r
		join certificate c using (issuer_id, serial) order by r.site, r.issuer_id, c.not_after, r.serial`)
	if err != nil {
		return err
	}
	certificates, err := pgx.CollectRows(rows, scanRosterCertificate)
	if err != nil {
		return err
	}
	for _, c := range certificates {
		if place, there := places[c.Site]; there {
			sites[place].Certificates = append(sites[place].Certificates, c)
		}
	}
	return nil
}

func scanRosterCertificate(row pgx.CollectableRow) (RosterCertificate, error) {
	var c RosterCertificate
	var fingerprint, keyHash []byte
	var revokedAt *time.Time
	var reason *int16
	err := row.Scan(&fingerprint, &c.IssuerID, (*[]byte)(&c.Serial), &c.Site, &keyHash, &c.DER, &c.Status.NotAfter, &revokedAt, &reason, &c.Withheld)
	copy(c.Fingerprint[:], fingerprint)
	copy(c.KeyHash[:], keyHash)
	c.Status = db.RowStatus(c.Status.NotAfter, revokedAt, reason)
	return c, err
}
