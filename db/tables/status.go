package tables

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// Issuers lists all issuers by number.
func (s *DB) Issuers(ctx context.Context) ([]db.Issuer, error) { return ReadIssuers(ctx, s.pool) }

func ReadIssuers(ctx context.Context, q pg.Querier) ([]db.Issuer, error) {
	rows, err := q.Query(ctx, `select id, key_hash, name, certificate, validity, backdate, max_staleness, fresh_for_unknown,
		http_max_age, refresh, never_issued, profile, crl_url, archive_cutoff, policy_version, crl from issuer order by id`)
	if err != nil {
		return nil, fmt.Errorf("reading issuers: %w", pg.Plain(err))
	}
	issuers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (db.Issuer, error) {
		var i db.Issuer
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
		return nil, fmt.Errorf("reading issuers: %w", pg.Plain(err))
	}
	return issuers, nil
}

// Certificate reads one row; ErrNotIssued when there is none.
func (s *DB) Certificate(ctx context.Context, issuer db.IssuerID, serial db.Serial) (db.Status, error) {
	var status db.Status
	var revokedAt *time.Time
	var reason *int16
	err := s.pool.QueryRow(ctx, "select not_after, revoked_at, reason from certificate where issuer_id = $1 and serial = $2", issuer, []byte(serial)).
		Scan(&status.NotAfter, &revokedAt, &reason)
	if errors.Is(err, pgx.ErrNoRows) {
		return db.Status{}, db.ErrNotIssued
	}
	if err != nil {
		return db.Status{}, fmt.Errorf("reading serial %s: %w", serial, pg.Plain(err))
	}
	return db.RowStatus(status.NotAfter, revokedAt, reason), nil
}

// ResponderCertificates lists all delegated certificates by issuer and serial.
func (s *DB) ResponderCertificates(ctx context.Context) ([]db.ResponderCertificate, error) {
	return ReadResponderCertificates(ctx, s.pool)
}

func ReadResponderCertificates(ctx context.Context, q pg.Querier) ([]db.ResponderCertificate, error) {
	rows, err := q.Query(ctx, "select fingerprint, issuer_id, serial, site, key_hash, der from responder_certificate order by issuer_id, serial")
	if err != nil {
		return nil, fmt.Errorf("reading responder certificates: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (db.ResponderCertificate, error) {
		var r db.ResponderCertificate
		var fingerprint, serial, key []byte
		err := row.Scan(&fingerprint, &r.IssuerID, &serial, &r.Site, &key, &r.DER)
		copy(r.Fingerprint[:], fingerprint)
		copy(r.KeyHash[:], key)
		r.Serial = serial
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading responder certificates: %w", err)
	}
	return list, nil
}
