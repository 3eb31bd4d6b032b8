package masterdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// AddIssuer adds an issuer to the master and returns its number.
func (s *DB) AddIssuer(ctx context.Context, i db.Issuer, act db.Act) (db.IssuerID, error) {
	var id db.IssuerID
	p := i.Policy
	seconds := func(d time.Duration) int32 { return int32(d / time.Second) }
	err := s.pool.QueryRow(ctx, "select issuer_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
		i.Key[:], i.Name, i.Certificate, seconds(p.Validity), seconds(p.Backdate), seconds(p.MaxStaleness), seconds(p.FreshForUnknown),
		seconds(p.HTTPMaxAge), seconds(p.Refresh), string(p.NeverIssued), string(p.Profile), p.CRLURL, p.ArchiveCutoff, act.Why, act.User).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("adding issuer %q: %w", i.Name, pg.Plain(err))
	}
	return id, nil
}

// SetIssuer changes certificate (of the same key) and policy of the issuer i.ID. i.Policy.Version
// is the version that the change was planned from: if it has changed since, the change is refused.
// SetIssuer returns false if nothing had to change.
func (s *DB) SetIssuer(ctx context.Context, i db.Issuer, act db.Act) (bool, error) {
	p := i.Policy
	seconds := func(d time.Duration) int32 { return int32(d / time.Second) }
	return pg.Value[bool](ctx, s.pool, fmt.Sprintf("setting issuer %q", i.Name), "select issuer_set($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
		i.ID, p.Version, i.Certificate, seconds(p.Validity), seconds(p.Backdate), seconds(p.MaxStaleness), seconds(p.FreshForUnknown),
		seconds(p.HTTPMaxAge), seconds(p.Refresh), string(p.NeverIssued), string(p.Profile), p.CRLURL, p.ArchiveCutoff, act.Why, act.User)
}

// Issue registers a certificate, before it is signed. It returns false if the same one was
// registered already.
func (s *DB) Issue(ctx context.Context, issuer db.IssuerID, serial db.Serial, notAfter time.Time, act db.Act) (bool, error) {
	return pg.Value[bool](ctx, s.pool, fmt.Sprintf("registering serial %s", serial), "select certificate_issue($1, $2, $3, $4, $5)", issuer, []byte(serial), notAfter.UTC().Truncate(time.Second), act.Why, act.User)
}

// Revoke revokes a certificate and returns its status then, and whether that was a change. A zero
// time is the master's clock now. Revoking a revoked certificate changes nothing, except that a
// hold becomes permanent.
func (s *DB) Revoke(ctx context.Context, issuer db.IssuerID, serial db.Serial, reason db.Reason, at time.Time, act db.Act) (db.Status, bool, error) {
	var status db.Status
	var changed bool
	var stored *int16
	err := s.pool.QueryRow(ctx, "select revoked_at, reason, changed from certificate_revoke($1, $2, $3, $4, $5, $6)",
		issuer, []byte(serial), db.ReasonArg(reason), db.TimeArg(at), act.Why, act.User).Scan(&status.RevokedAt, &stored, &changed)
	if pg.IsCode(err, "P0002") {
		return db.Status{}, false, fmt.Errorf("revoking serial %s: %w", serial, db.ErrNotIssued)
	}
	if err != nil {
		return db.Status{}, false, fmt.Errorf("revoking serial %s: %w", serial, pg.Plain(err))
	}
	status.Revoked, status.RevokedAt, status.Reason = true, status.RevokedAt.UTC(), db.ReasonOf(stored)
	return status, changed, nil
}

// Hold puts a certificate on hold and returns since when it is on hold, and whether that was a
// change. A permanently revoked certificate is refused.
func (s *DB) Hold(ctx context.Context, issuer db.IssuerID, serial db.Serial, act db.Act) (since time.Time, changed bool, err error) {
	err = s.pool.QueryRow(ctx, "select revoked_at, changed from certificate_hold($1, $2, $3, $4)", issuer, []byte(serial), act.Why, act.User).
		Scan(&since, &changed)
	if pg.IsCode(err, "P0002") {
		return time.Time{}, false, fmt.Errorf("holding serial %s: %w", serial, db.ErrNotIssued)
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("holding serial %s: %w", serial, pg.Plain(err))
	}
	return since.UTC(), changed, nil
}

// Release ends a hold and returns whether there was one. A permanently revoked certificate is
// refused.
func (s *DB) Release(ctx context.Context, issuer db.IssuerID, serial db.Serial, act db.Act) (bool, error) {
	var changed bool
	err := s.pool.QueryRow(ctx, "select certificate_release($1, $2, $3, $4)", issuer, []byte(serial), act.Why, act.User).Scan(&changed)
	if pg.IsCode(err, "P0002") {
		return false, fmt.Errorf("releasing serial %s: %w", serial, db.ErrNotIssued)
	}
	if err != nil {
		return false, fmt.Errorf("releasing serial %s: %w", serial, pg.Plain(err))
	}
	return changed, nil
}
