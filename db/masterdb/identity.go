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

// SuspendResponder puts all unexpired certificates of a site on hold and sets its state to
// suspended, in one transaction. Changed is false for those already on hold. Profile br allows no
// hold: there the certificates are removed from the replicated rows.
func (s *Sites) SuspendResponder(ctx context.Context, site string, act db.Act) ([]RevokedCertificate, error) {
	return s.siteCertificates(ctx, "suspending", site, "responder_suspend($1, $2, $3)", act.Why, act.User)
}

// RestoreResponder makes a suspended site active again, releases its certificates from hold or
// adds them to the rows again, and returns them.
func (s *Sites) RestoreResponder(ctx context.Context, site string, act db.Act) ([]RevokedCertificate, error) {
	return s.siteCertificates(ctx, "restoring", site, "responder_restore($1, $2, $3)", act.Why, act.User)
}

// LeaveResponder removes an active site from the fleet for ever, and bans its keys; its
// certificates, which it returns, stay good until they end. Changed are those that were planned
// and never released: they are revoked with cessationOfOperation.
func (s *Sites) LeaveResponder(ctx context.Context, site string, act db.Act) ([]RevokedCertificate, error) {
	return s.siteCertificates(ctx, "taking leave of", site, "responder_leave($1, $2, $3)", act.Why, act.User)
}

// siteCertificates calls an SQL function that changes a site and returns the certificates that it
// affects; $1 is the site.
func (s *Sites) siteCertificates(ctx context.Context, doing, site, call string, args ...any) ([]RevokedCertificate, error) {
	rows, err := s.pool.Query(ctx, "select issuer_id, serial, changed from "+call, append([]any{site}, args...)...)
	var list []RevokedCertificate
	if err == nil {
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (RevokedCertificate, error) {
			var c RevokedCertificate
			err := row.Scan(&c.IssuerID, (*[]byte)(&c.Serial), &c.Changed)
			return c, err
		})
	}
	if pg.IsCode(err, "P0002") {
		return nil, fmt.Errorf("%s site %q: %w", doing, site, ErrNoResponder)
	}
	if err != nil {
		return nil, fmt.Errorf("%s site %q: %w", doing, site, pg.Plain(err))
	}
	return list, nil
}

// Access is the state of a site's native replication at the master.
type Access struct {
	Login    string // empty: the site has none (of group ocsp_replica)
	Open     bool   // it may log in
	Sessions int64  // its sessions now, including running streams
	Slots    int64
	// Written is the position of the master's log, Confirmed the position that the site's running
	// stream has applied; nil: none runs. Octets.
	Written   int64
	Confirmed *int64
}

// SiteAccess reads the login, sessions and slots of a site.
func (s *Sites) SiteAccess(ctx context.Context, site string) (Access, error) {
	var a Access
	var login *string
	err := s.pool.QueryRow(ctx, "select login, open, sessions, slots, written, confirmed from responder_access($1)", site).
		Scan(&login, &a.Open, &a.Sessions, &a.Slots, &a.Written, &a.Confirmed)
	if errors.Is(err, pgx.ErrNoRows) {
		return Access{}, nil
	}
	if err != nil {
		return Access{}, fmt.Errorf("looking at the access of site %q: %w", site, pg.Plain(err))
	}
	if login != nil {
		a.Login = *login
	}
	return a, nil
}

// OpenSiteLogin opens or closes the login by which a site replicates, and says whether that
// changed anything. Running sessions continue: CutSite ends them.
func (s *Sites) OpenSiteLogin(ctx context.Context, site string, open bool, act db.Act) (bool, error) {
	var changed *bool
	err := s.pool.QueryRow(ctx, "select responder_login_open($1, $2, $3, $4)", site, open, act.Why, act.User).Scan(&changed)
	if err != nil {
		return false, fmt.Errorf("setting the login of site %q open=%t: %w", site, open, pg.Plain(err))
	}
	return changed != nil && *changed, nil
}

// CutSite ends all sessions of a closed login, running streams too, and returns how many.
func (s *Sites) CutSite(ctx context.Context, site string) (int64, error) {
	return pg.Value[int64](ctx, s.pool, fmt.Sprintf("ending the sessions of site %q", site), "select responder_disconnect($1)", site)
}

// DropSiteSlots drops the unused slots of a revoked site, and returns how many.
func (s *Sites) DropSiteSlots(ctx context.Context, site string) (int64, error) {
	return pg.Value[int64](ctx, s.pool, fmt.Sprintf("dropping the slots of site %q", site), "select responder_slots_drop($1)", site)
}

// SetSiteLogin sets the site's login of group ocsp_replica; without it, the login is the site's
// name with _ for -.
func (s *Sites) SetSiteLogin(ctx context.Context, site, login string, act db.Act) (bool, error) {
	return pg.Value[bool](ctx, s.pool, fmt.Sprintf("setting the login of site %q", site), "select responder_login_set($1, $2, $3, $4)", site, login, act.Why, act.User)
}

// Planned is a responder certificate whose serial is registered and which was not released yet: an
// offline CA signs it.
type Planned struct {
	IssuerID            db.IssuerID
	Serial              db.Serial
	Site                string
	KeyHash             [32]byte // SHA-256 of the SubjectPublicKeyInfo DER
	NotBefore, NotAfter time.Time
}

// PlanResponderCertificates registers certificates before they are signed, all or none. Each has a
// serial of the issuer's pool: its own, or, if it has none, the oldest, which is filled in. keep,
// unless nil, is called before the commit. A key of a revoked or another site is refused.
func (s *Sites) PlanResponderCertificates(ctx context.Context, list []Planned, keep func() error, act db.Act) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for i := range list {
			p := &list[i]
			err := tx.QueryRow(ctx, "select responder_plan($1, $2, $3, $4, $5, $6, $7, $8)",
				p.IssuerID, []byte(p.Serial), p.Site, p.KeyHash[:], p.NotBefore, p.NotAfter, act.Why, act.User).Scan((*[]byte)(&p.Serial))
			if err != nil {
				return fmt.Errorf("a certificate of site %q: %w", p.Site, err)
			}
		}
		if keep != nil {
			return keep()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("planning certificates: %w", pg.Plain(err))
	}
	return nil
}

// PlannedCertificates lists the planned certificates that were not released, by their begin.
func (s *Sites) PlannedCertificates(ctx context.Context) ([]Planned, error) {
	scan := func(row pgx.CollectableRow) (Planned, error) {
		var p Planned
		var keyHash []byte
		err := row.Scan(&p.IssuerID, (*[]byte)(&p.Serial), &p.Site, &keyHash, &p.NotBefore, &p.NotAfter)
		copy(p.KeyHash[:], keyHash)
		p.NotBefore, p.NotAfter = p.NotBefore.UTC(), p.NotAfter.UTC()
		return p, err
	}
	return pg.List(ctx, s.pool, "reading planned certificates", scan, "select issuer_id, serial, site, key_hash, not_before, not_after from responder_planned order by not_before, site, issuer_id")
}

// AddSerials adds serials that a CA made to the master's pool, from which certificates are
// planned, and returns how many were new. It leaves out issued ones.
func (s *Sites) AddSerials(ctx context.Context, issuer db.IssuerID, serials []db.Serial, act db.Act) (int64, error) {
	list := make([][]byte, len(serials))
	for i, serial := range serials {
		list[i] = serial
	}
	return pg.Value[int64](ctx, s.pool, "adding serials to the pool", "select serial_pool_add($1, $2, $3, $4)", issuer, list, act.Why, act.User)
}

// SpareSerials is how many certificates of an issuer can still be planned.
func (s *Sites) SpareSerials(ctx context.Context, issuer db.IssuerID) (n int64, err error) {
	return pg.Value[int64](ctx, s.pool, "counting the serials of the pool", "select count(*) from serial_pool where issuer_id = $1", issuer)
}

// BannedKeys are the keys of revoked sites (SHA-256 of their SubjectPublicKeyInfo): they must not
// be certified again.
func (s *Sites) BannedKeys(ctx context.Context) ([][32]byte, error) {
	scan := func(row pgx.CollectableRow) (key [32]byte, err error) {
		var raw []byte
		err = row.Scan(&raw)
		copy(key[:], raw)
		return key, err
	}
	return pg.List(ctx, s.pool, "reading the banned keys", scan, "select key_hash from responder_key where banned order by key_hash")
}
