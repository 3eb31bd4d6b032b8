package masterdb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5/pgconn"
)

// Limit is the current hourly limit of revocations for this login.
type Limit struct {
	PerHour int64 // of one login; services together may revoke twice as many, all logins three times as many
	// Mine is the number of revocations by this login within the last hour, Services that of all
	// logins of programs, and All that of all logins, both without certificates that a login had
	// issued itself within the hour. Allowances are not counted.
	Mine, Services, All int64
	// Room is how many more this login may revoke without an allowance; RoomOthers of them may be
	// certificates that it did not issue within the hour.
	Room, RoomOthers int64
	Allowance        int64 // beyond that, as two persons have agreed
}

// Limit reads the limit.
func (s *DB) Limit(ctx context.Context) (Limit, error) {
	var l Limit
	err := s.pool.QueryRow(ctx, `select l.per_hour, l.mine, l.services, l.all_logins, l.remaining, l.remaining_others, (select coalesce(sum(remaining), 0)::bigint from approval
		where act = 'bulk' and what->>'login' = session_user and expires_at > clock_timestamp()) from limit_state() l`).
		Scan(&l.PerHour, &l.Mine, &l.Services, &l.All, &l.Room, &l.RoomOthers, &l.Allowance)
	if err != nil {
		return Limit{}, fmt.Errorf("reading the limit: %w", pg.Plain(err))
	}
	return l, nil
}

// OverLimit says that more revocations were requested than the hourly limit allows.
type OverLimit struct {
	Missing int64 // how many need an approval first
	*db.Refusal
}

// TryLimit checks n revocations of good certificates against the limit, and makes none. If they
// are too many the error is an *OverLimit.
func (s *DB) TryLimit(ctx context.Context, n int64) error {
	err := s.Try(ctx, false, func(s *DB) error {
		_, err := s.pool.Exec(ctx, "select limit_try($1)", n)
		return err
	})
	if err == nil {
		return nil
	}
	var refusal *db.Refusal
	var pg *pgconn.PgError
	if errors.As(err, &refusal) && errors.As(err, &pg) && pg.Code == "54000" {
		if missing, bad := strconv.ParseInt(pg.Detail, 10, 64); bad == nil {
			return &OverLimit{missing, refusal}
		}
	}
	return fmt.Errorf("asking the limit: %w", err)
}

// SetLimit sets the limit of one login and returns the one before. The store's login must be a
// superuser.
func (s *DB) SetLimit(ctx context.Context, perHour int64, act db.Act) (before int64, err error) {
	return pg.Value[int64](ctx, s.pool, "setting the limit", "select limit_set($1, $2, $3)", perHour, act.Why, act.User)
}

// RequestBulk asks for an allowance of count revocations beyond the hourly limit for one login; an
// empty login is the caller's own.
func (s *DB) RequestBulk(ctx context.Context, count int64, login string, act db.Act) (id int64, expires time.Time, err error) {
	details := map[string]any{"count": count}
	if login != "" {
		details["login"] = login
	}
	return s.request(ctx, ApprovalBulk, details, act)
}
