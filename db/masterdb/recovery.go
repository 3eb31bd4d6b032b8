package masterdb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// RecoveryBatch is how many lost certificates are entered in one transaction.
const RecoveryBatch = 10_000

// Effects returns what importing the batch would do at the master, for the rows whose effect is
// neither ImportSame nor ImportGuessed. Number is the row's place in the batch, from 1. No serial
// may occur twice.
func (s *DB) Effects(ctx context.Context, issuer db.IssuerID, batch []Row) ([]EffectHere, error) {
	serials, notAfter, revokedAt, reasons := rowArgs(batch)
	scan := func(row pgx.CollectableRow) (EffectHere, error) {
		var e EffectHere
		var hereNotAfter, hereRevokedAt *time.Time
		var hereReason *int16
		err := row.Scan(&e.Number, &e.Effect, &e.Corrected, &hereNotAfter, &hereRevokedAt, &hereReason)
		if err == nil && hereNotAfter != nil {
			e.Here = db.RowStatus(*hereNotAfter, hereRevokedAt, hereReason)
		}
		if err == nil {
			e.Row = batch[e.Number-1]
		}
		return e, err
	}
	return pg.List(ctx, s.pool, fmt.Sprintf("comparing %d certificates with the master", len(batch)), scan, "select place, effect, corrected, here_not_after, here_revoked_at, here_reason from certificate_effects($1, $2, $3, $4, $5)",
		issuer, serials, notAfter, revokedAt, reasons)
}

// EffectHere is the effect of one row at the master.
type EffectHere struct {
	Number int64
	Row
	Effect    Effect
	Corrected bool      // the master took this revocation back
	Here      db.Status // zero where Effect is ImportNew
}

// Enters says whether the effect adds something at the master.
func (e EffectHere) Enters() bool {
	switch e.Effect {
	case ImportNew, ImportRevoke, ImportPermanent, ImportReason, ImportEnd:
		return !e.Corrected
	}
	return false
}

func rowArgs(batch []Row) (serials [][]byte, notAfter []time.Time, revokedAt []*time.Time, reasons []*int16) {
	serials, notAfter = make([][]byte, len(batch)), make([]time.Time, len(batch))
	revokedAt, reasons = make([]*time.Time, len(batch)), make([]*int16, len(batch))
	for i, row := range batch {
		serials[i], notAfter[i] = row.Serial, row.Status.NotAfter.UTC().Truncate(time.Second)
		revokedAt[i], reasons[i] = db.RevocationArg(row.Status)
	}
	return serials, notAfter, revokedAt, reasons
}

// Recovery is a request to enter certificates that a master lost: exactly these rows.
type Recovery struct {
	From            string // a source of the feed, or a site
	Epoch, Position int64  // of the signed statement; zero: a site's claim
	Batches         []RecoverBatch
}

// RecoverBatch is at most RecoveryBatch rows of one issuer.
type RecoverBatch struct {
	Issuer db.IssuerID
	Rows   []Row
}

// Sum returns the SHA-256 of the rows' canonical bytes, in lower-case hex: two persons agree to
// it.
func (b RecoverBatch) Sum() string {
	sum := sha256.New()
	for _, row := range b.Rows {
		sum.Write(db.AppendCertificate(nil, b.Issuer, row.Serial, row.Status))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// act returns the act that a second person must agree to.
func (r Recovery) act() ApprovalAct {
	if r.Epoch == 0 {
		return ApprovalLost
	}
	return ApprovalRecover
}

// Sums returns the batches' sums.
func (r Recovery) Sums() []string {
	sums := make([]string, len(r.Batches))
	for i, b := range r.Batches {
		sums[i] = b.Sum()
	}
	return sums
}

// Counts returns how many certificates are good, permanently revoked and on hold.
func (r Recovery) Counts() map[db.State]int64 {
	counts := map[db.State]int64{db.StateGood: 0, db.StateHeld: 0, db.StateRevoked: 0}
	for _, b := range r.Batches {
		for _, row := range b.Rows {
			counts[row.Status.State()]++
		}
	}
	return counts
}

// RequestRecovery asks for the agreement of a second person to enter these rows.
func (s *DB) RequestRecovery(ctx context.Context, r Recovery, act db.Act) (id int64, expires time.Time, err error) {
	counts := r.Counts()
	details := map[string]any{
		"from": r.From, "good": counts[db.StateGood], "held": counts[db.StateHeld], "revoked": counts[db.StateRevoked], "batches": r.Sums(),
	}
	if r.Epoch != 0 {
		details["epoch"], details["position"] = r.Epoch, r.Position
	}
	return s.request(ctx, r.act(), details, act)
}

// RecoveryAgreed says whether two persons have agreed to all of these rows.
func (s *DB) RecoveryAgreed(ctx context.Context, r Recovery) (bool, error) {
	return pg.Value[bool](ctx, s.pool, "looking for an approval", `select exists (select from approval where act = $1 and approved_at is not null and expires_at > clock_timestamp()
		and what->'batches' @> to_jsonb($2::text[]))`, r.act(), r.Sums())
}

// Recover enters one batch to which two persons have agreed, in a transaction with its audit
// entry. Revocations of certificates that are good here count for the hourly limit.
func (s *DB) Recover(ctx context.Context, b RecoverBatch, act db.Act) (entered int64, err error) {
	serials, notAfter, revokedAt, reasons := rowArgs(b.Rows)
	var unchanged int64
	err = s.pool.QueryRow(ctx, "select unchanged from recovery_apply($1, $2, $3, $4, $5, $6, $7)",
		b.Issuer, serials, notAfter, revokedAt, reasons, act.Why, act.User).Scan(&unchanged)
	if err != nil {
		return 0, fmt.Errorf("entering %d certificates that were lost: %w", len(b.Rows), pg.Plain(err))
	}
	return int64(len(b.Rows)) - unchanged, nil
}
