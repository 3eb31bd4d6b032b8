package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// guard refuses staged rows that the copy must not take in, unless the old copy was
// not the master's own: then the row may be anybody's.
func (s *seed) guard(ctx context.Context) error {
	old, err := readHead(ctx, s.tx)
	if errors.Is(err, ErrNoHead) {
		return nil
	}
	if err != nil {
		return err
	}
	if old.Epoch == s.head.Epoch && old.Position > s.head.Position {
		// A master restored from a backup, or the old worker was still at work.
		s.Examples = append(s.Examples, fmt.Sprintf("head went back from position %d", old.Position))
	}
	a := &Adoption{Now: time.Now(), AsOf: old.AsOf, Open: s.open, Why: s.why}
	if err := s.readLists(ctx, a, old); err != nil {
		return err
	}
	lost, err := s.lost(ctx, a)
	if err != nil {
		return err
	}
	intact := true
	if lost != nil || len(a.MovedIssuers()) > 0 {
		counted, err := tally(ctx, s.tx, "certificate", certificateCanonical)
		if err != nil {
			return err
		}
		intact = counted == old.Certificates
	}
	if lost != nil && intact {
		return fmt.Errorf("%w; so it is with %d that this site knew at position %d, in the master's rows at position %d: restore them at the master (ocspctl fleet lost)",
			lost, s.Discarded, old.Position, s.head.Position)
	}
	return a.Lists(func(issuer IssuerID, each func(Serial, Status) error) error {
		if !intact {
			return nil
		}
		return eachRevocation(ctx, s.tx, issuer, a.Now, each)
	})
}

// readLists reads the lists of both copies. An old one that is not as its head says is
// no measure.
func (s *seed) readLists(ctx context.Context, a *Adoption, old Head) error {
	for _, t := range FeedTables {
		if t.Code != CorrectionTable && t.Code != issuerTable {
			continue
		}
		held, err := t.contents(ctx, s.tx, t.Name)
		if err != nil {
			return err
		}
		var counted Tally
		for _, content := range held {
			counted.Add(content)
		}
		if counted != *t.Tally(&old) {
			held = nil
		}
		next, err := t.contents(ctx, s.tx, "seed_"+t.Name)
		if err != nil {
			return err
		}
		if err := errors.Join(a.Held.add(t, held), a.Next.add(t, next)); err != nil {
			return err
		}
	}
	return nil
}

// lost looks at each certificate that may be refused, and counts those that are. The
// error is the first of them.
func (s *seed) lost(ctx context.Context, a *Adoption) (lost, err error) {
	const canonical = "certificate_canonical(%[1]s.issuer_id, %[1]s.serial, %[1]s.not_after, %[1]s.revoked_at, %[1]s.reason)"
	o, n := fmt.Sprintf(canonical, "o"), fmt.Sprintf(canonical, "n")
	// All that Suspect may find, and more: it is looked at below.
	rows, err := s.tx.Query(ctx, `select `+o+`, case when n.serial is not null then `+n+` end
		from certificate o left join seed_certificate n using (issuer_id, serial)
		where o.revoked_at is not null and o.reason is distinct from $2 and o.not_after > $1
		and (n.not_after, n.revoked_at, n.reason) is distinct from (o.not_after, o.revoked_at, o.reason)
		union all
		select case when o.serial is not null then `+o+` end, `+n+`
		from (select distinct issuer_id, serial, revoked_at from correction) k join seed_certificate n using (issuer_id, serial, revoked_at) left join certificate o using (issuer_id, serial)
		where n.reason is distinct from $2`, a.Now, int16(ReasonCertificateHold))
	if err != nil {
		return nil, fmt.Errorf("looking for lost revocations: %w", plain(err))
	}
	var was, is []byte
	_, err = pgx.ForEachRow(rows, []any{&was, &is}, func() error {
		refused, err := a.row(was, is)
		if refused != nil {
			s.Discarded++
			if lost == nil {
				lost = refused
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for lost revocations: %w", plain(err))
	}
	return lost, nil
}

// row judges the canonical bytes of a certificate as it was and as it will be; nil is
// no row.
func (a *Adoption) row(old, is []byte) (refused, err error) {
	var issuer IssuerID
	var serial Serial
	read := func(content []byte) *Status {
		if content == nil || err != nil {
			return nil
		}
		var status Status
		issuer, serial, status, err = ParseCertificate(content)
		return &status
	}
	was, next := read(old), read(is)
	if err != nil {
		return nil, err
	}
	return a.Certificate(issuer, serial, was, next), nil
}
