package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Act is who changes something and why; it stands in the audit.
type Act struct {
	User string // the operating system's user, as the client says
	Why  string // for people; may be empty where nothing is taken away
}

// AddIssuer puts an issuer on the master and returns its number.
func (s *Master) AddIssuer(ctx context.Context, i Issuer, act Act) (IssuerID, error) {
	var id IssuerID
	p := i.Policy
	seconds := func(d time.Duration) int32 { return int32(d / time.Second) }
	err := s.pool.QueryRow(ctx, "select issuer_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
		i.Key[:], i.Name, i.Certificate, seconds(p.Validity), seconds(p.Backdate), seconds(p.MaxStaleness), seconds(p.FreshForUnknown),
		seconds(p.HTTPMaxAge), seconds(p.Refresh), string(p.NeverIssued), string(p.Profile), p.CRLURL, p.ArchiveCutoff, act.Why, act.User).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("adding issuer %q: %w", i.Name, plain(err))
	}
	return id, nil
}

// SetIssuer changes certificate (of the same key) and policy of the issuer i.ID.
// i.Policy.Version is the one that the change was planned from: meanwhile another, it
// is refused. It returns false when all was so already.
func (s *Master) SetIssuer(ctx context.Context, i Issuer, act Act) (bool, error) {
	p := i.Policy
	seconds := func(d time.Duration) int32 { return int32(d / time.Second) }
	var changed bool
	err := s.pool.QueryRow(ctx, "select issuer_set($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
		i.ID, p.Version, i.Certificate, seconds(p.Validity), seconds(p.Backdate), seconds(p.MaxStaleness), seconds(p.FreshForUnknown),
		seconds(p.HTTPMaxAge), seconds(p.Refresh), string(p.NeverIssued), string(p.Profile), p.CRLURL, p.ArchiveCutoff, act.Why, act.User).Scan(&changed)
	if err != nil {
		return false, fmt.Errorf("setting issuer %q: %w", i.Name, plain(err))
	}
	return changed, nil
}

// Issuers lists all issuers by number.
func (s *Common) Issuers(ctx context.Context) ([]Issuer, error) { return readIssuers(ctx, s.pool) }

func readIssuers(ctx context.Context, q querier) ([]Issuer, error) {
	rows, err := q.Query(ctx, `select id, key_hash, name, certificate, validity, backdate, max_staleness, fresh_for_unknown,
		http_max_age, refresh, never_issued, profile, crl_url, archive_cutoff, policy_version, crl from issuer order by id`)
	if err != nil {
		return nil, fmt.Errorf("reading issuers: %w", plain(err))
	}
	issuers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Issuer, error) {
		var i Issuer
		var key []byte
		var seconds [6]int32
		err := row.Scan(&i.ID, &key, &i.Name, &i.Certificate, &seconds[0], &seconds[1], &seconds[2], &seconds[3], &seconds[4], &seconds[5],
			&i.Policy.NeverIssued, &i.Policy.Profile, &i.Policy.CRLURL, &i.Policy.ArchiveCutoff, &i.Policy.Version, &i.CRL)
		copy(i.Key[:], key)
		for n, d := range []*time.Duration{&i.Policy.Validity, &i.Policy.Backdate, &i.Policy.MaxStaleness, &i.Policy.FreshForUnknown, &i.Policy.HTTPMaxAge, &i.Policy.Refresh} {
			*d = time.Duration(seconds[n]) * time.Second
		}
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading issuers: %w", plain(err))
	}
	return issuers, nil
}

// Issue registers a certificate, before it is signed. It returns false when the
// same one was registered already.
func (s *Master) Issue(ctx context.Context, issuer IssuerID, serial Serial, notAfter time.Time, act Act) (bool, error) {
	var fresh bool
	err := s.pool.QueryRow(ctx, "select certificate_issue($1, $2, $3, $4, $5)", issuer, []byte(serial), notAfter.UTC().Truncate(time.Second), act.Why, act.User).Scan(&fresh)
	if err != nil {
		return false, fmt.Errorf("registering serial %s: %w", serial, plain(err))
	}
	return fresh, nil
}

// Revoke revokes a certificate and returns its status then, and whether that
// was a change. A zero time is the master's clock now. Revoking what is revoked
// changes nothing, except that a hold becomes permanent.
func (s *Master) Revoke(ctx context.Context, issuer IssuerID, serial Serial, reason Reason, at time.Time, act Act) (Status, bool, error) {
	var status Status
	var changed bool
	var stored *int16
	err := s.pool.QueryRow(ctx, "select revoked_at, reason, changed from certificate_revoke($1, $2, $3, $4, $5, $6)",
		issuer, []byte(serial), reasonArg(reason), timeArg(at), act.Why, act.User).Scan(&status.RevokedAt, &stored, &changed)
	if isCode(err, "P0002") {
		return Status{}, false, fmt.Errorf("revoking serial %s: %w", serial, ErrNotIssued)
	}
	if err != nil {
		return Status{}, false, fmt.Errorf("revoking serial %s: %w", serial, plain(err))
	}
	status.Revoked, status.RevokedAt, status.Reason = true, status.RevokedAt.UTC(), reasonOf(stored)
	return status, changed, nil
}

// Hold revokes a certificate for a time and returns since when it is on hold, and
// whether that was a change. What is revoked for ever is refused.
func (s *Master) Hold(ctx context.Context, issuer IssuerID, serial Serial, act Act) (since time.Time, changed bool, err error) {
	err = s.pool.QueryRow(ctx, "select revoked_at, changed from certificate_hold($1, $2, $3, $4)", issuer, []byte(serial), act.Why, act.User).
		Scan(&since, &changed)
	if isCode(err, "P0002") {
		return time.Time{}, false, fmt.Errorf("holding serial %s: %w", serial, ErrNotIssued)
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("holding serial %s: %w", serial, plain(err))
	}
	return since.UTC(), changed, nil
}

// Release ends a hold and returns whether there was one. What is revoked for ever
// is refused.
func (s *Master) Release(ctx context.Context, issuer IssuerID, serial Serial, act Act) (bool, error) {
	var changed bool
	err := s.pool.QueryRow(ctx, "select certificate_release($1, $2, $3, $4)", issuer, []byte(serial), act.Why, act.User).Scan(&changed)
	if isCode(err, "P0002") {
		return false, fmt.Errorf("releasing serial %s: %w", serial, ErrNotIssued)
	}
	if err != nil {
		return false, fmt.Errorf("releasing serial %s: %w", serial, plain(err))
	}
	return changed, nil
}

// Certificate reads one row; ErrNotIssued when there is none.
func (s *Common) Certificate(ctx context.Context, issuer IssuerID, serial Serial) (Status, error) {
	var status Status
	var revokedAt *time.Time
	var reason *int16
	err := s.pool.QueryRow(ctx, "select not_after, revoked_at, reason from certificate where issuer_id = $1 and serial = $2", issuer, []byte(serial)).
		Scan(&status.NotAfter, &revokedAt, &reason)
	if errors.Is(err, pgx.ErrNoRows) {
		return Status{}, ErrNotIssued
	}
	if err != nil {
		return Status{}, fmt.Errorf("reading serial %s: %w", serial, plain(err))
	}
	return rowStatus(status.NotAfter, revokedAt, reason), nil
}

// rowStatus is the status of a row: revoked where it has a time of revocation, whatever
// that is.
func rowStatus(notAfter time.Time, revokedAt *time.Time, reason *int16) Status {
	return Status{NotAfter: notAfter.UTC(), Revoked: revokedAt != nil, RevokedAt: timeOrZero(revokedAt), Reason: reasonOf(reason)}
}

// revocationArg is the time and the reason of a row: null of what is not revoked.
func revocationArg(s Status) (revokedAt *time.Time, reason *int16) {
	if !s.Revoked {
		return nil, nil
	}
	at := s.RevokedAt.UTC().Truncate(time.Second)
	return &at, reasonArg(s.Reason)
}

func reasonArg(r Reason) *int16 {
	if r <= 0 {
		return nil
	}
	n := int16(r)
	return &n
}

func reasonOf(n *int16) Reason {
	if n == nil {
		return ReasonNone
	}
	return Reason(*n)
}

func timeArg(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}
