package sitedb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// guard refuses staged rows that the copy must not take in, by what this site remembers: the old
// rows may have been changed by any writer, or be gone.
func (s *seed) guard(ctx context.Context) error {
	old, err := tables.ReadHead(ctx, s.tx)
	if err != nil && !errors.Is(err, db.ErrNoHead) {
		return err
	}
	a := &db.Adoption{Ended: db.Ended(time.Now(), s.Head.AsOf)}
	a.Open, a.Why = s.from.corrections()
	if err == nil && old.Epoch == s.Head.Epoch && old.Position > s.Head.Position {
		// The master was restored from a backup, or the old worker was still running.
		s.Examples = append(s.Examples, fmt.Sprintf("head went back from position %d", old.Position))
	}
	if err := s.readLists(ctx, a, old); err != nil {
		return err
	}
	var lost error
	var count int
	for _, old := range []string{"certificate", "seed_certificate limit 0"} { // where it is damaged, without the old rows
		var damaged bool
		if damaged, err = s.spare(ctx, func() (err error) { lost, count, err = s.lost(ctx, a, old); return err }); err != nil {
			return err
		}
		if !damaged {
			break
		}
	}
	if lost != nil {
		return fmt.Errorf("%w; so it is with %d that this site remembers, in the rows at position %d: restore them at the master (ocspctl fleet lost)",
			lost, count, s.Head.Position)
	}
	return a.Lists(func(issuer db.IssuerID, each func(db.Serial, db.Status) error) error {
		return eachRevocation(ctx, s.tx, issuer, each)
	})
}

// readLists reads the issuers of the remembered revocations, the corrections of the old copy and
// the lists of the new one. An old copy that differs from its head is not compared.
func (s *seed) readLists(ctx context.Context, a *db.Adoption, old db.Head) (err error) {
	if a.Held.Issuers, err = rememberedIssuers(ctx, s.tx); err != nil {
		return err
	}
	for _, t := range db.FeedTables {
		if t.Code != db.CorrectionTable && t.Code != db.IssuerTable {
			continue
		}
		next, err := contentsOf(ctx, t, s.tx, "seed_"+t.Name)
		if err == nil {
			err = addTo(&a.Next, t, next)
		}
		if err != nil {
			return err
		}
		if t.Code != db.CorrectionTable {
			continue
		}
		var held [][]byte
		if _, err = s.spare(ctx, func() (err error) { held, err = contentsOf(ctx, t, s.tx, t.Name); return err }); err != nil {
			return err
		}
		var counted db.Tally
		for _, content := range held {
			counted.Add(content)
		}
		if counted != old.Corrections {
			continue
		}
		a.AsOf = old.AsOf
		if err := addTo(&a.Held, t, held); err != nil {
			return err
		}
	}
	return nil
}

// lost checks each certificate that may be refused, and counts the refused ones: lost is the
// reason of the first.
func (s *seed) lost(ctx context.Context, a *db.Adoption, old string) (lost error, count int, err error) {
	// All that Suspect may find, and more: checked below.
	rows, err := s.tx.Query(ctx, `
		select certificate_canonical(m.issuer_id, m.serial, m.not_after, m.revoked_at, m.reason),
		  case when n.serial is not null then certificate_canonical(n.issuer_id, n.serial, n.not_after, n.revoked_at, n.reason) end
		from site_revoked m left join seed_certificate n using (issuer_id, serial)
		where m.not_after > $1 and (n.not_after, n.revoked_at, coalesce(n.reason, -1)) is distinct from (m.not_after, m.revoked_at, m.reason)
		union all
		select case when o.serial is not null then certificate_canonical(o.issuer_id, o.serial, o.not_after, o.revoked_at, o.reason) end,
		  certificate_canonical(n.issuer_id, n.serial, n.not_after, n.revoked_at, n.reason)
		from (select distinct issuer_id, serial, revoked_at from correction) k join seed_certificate n using (issuer_id, serial, revoked_at)
		left join (select issuer_id, serial, not_after, revoked_at, reason from `+old+`) o using (issuer_id, serial)
		where n.reason is distinct from $2`, a.Ended, int16(db.ReasonCertificateHold))
	if err != nil {
		return nil, 0, fmt.Errorf("looking for lost revocations: %w", pg.Plain(err))
	}
	var was, is []byte
	_, err = pgx.ForEachRow(rows, []any{&was, &is}, func() error {
		refused, err := adoptRow(a, was, is)
		if refused != nil {
			count++
			if lost == nil {
				lost = refused
			}
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("looking for lost revocations: %w", pg.Plain(err))
	}
	return lost, count, nil
}

// adoptRow checks the canonical bytes of a certificate before and after; nil means no row.
func adoptRow(a *db.Adoption, old, is []byte) (refused, err error) {
	var issuer db.IssuerID
	var serial db.Serial
	read := func(content []byte) *db.Status {
		if content == nil || err != nil {
			return nil
		}
		var status db.Status
		issuer, serial, status, err = db.ParseCertificate(content)
		return &status
	}
	was, next := read(old), read(is)
	if err != nil {
		return nil, err
	}
	return a.Certificate(issuer, serial, was, next), nil
}
