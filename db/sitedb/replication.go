package sitedb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/upstream"

	"github.com/jackc/pgx/v5"
)

// Subscription is the state of a subscription and its copy in the site's database.
type Subscription struct {
	Exists   bool
	Enabled  bool
	Slot     string
	Wrong    string // how it differs from what a seed makes; empty: it does not
	Tables   int    // how many tables it feeds, and how many of them are in step
	InStep   int
	Worker   bool      // an apply worker is running
	LastMsg  time.Time // receipt of the master's last message by this worker; zero: none yet
	Errors   int64     // failures of the worker so far, lost connections included
	HasHead  bool
	Epoch    int64
	Position int64
	AsOf     time.Time
	SiteSeq  int64 // the last number given to a local change; moves with every change, from any writer
	Clock    time.Time
}

// Tables is how many tables the subscription of the rows must feed, FilesTables the same for the
// files.
var (
	Tables      = len(db.ReplicatedTables)
	FilesTables = len(publishedFiles)
)

// Subscription reads the state of a subscription, as far as any role may.
func (s *DB) Subscription(ctx context.Context, name string) (Subscription, error) {
	var v Subscription
	var asOf, lastMsg *time.Time
	// A worker's statistics are shared memory, not a snapshot: nothing here is
	// exact to the row. PostgreSQL 16 made substream a "char".
	err := s.pool.QueryRow(ctx, `select s.oid is not null, coalesce(s.subenabled, false), coalesce(s.subslotname, ''),
		coalesce(concat_ws(', ',
			case when s.subsynccommit <> 'on' then 'synchronous_commit is ' || s.subsynccommit end,
			case when s.substream::text not in ('f', 'false') then 'streaming is on' end,
			case when s.subtwophasestate <> 'd' then 'two_phase is on' end,
			case when s.subdisableonerr then 'disable_on_error is on' end,
			case when s.subpublications <> array[$1::text] then 'publications are ' || s.subpublications::text end,
			case when o.rolsuper then 'its owner is a superuser' end), ''),
		(select count(*) from pg_subscription_rel r where r.srsubid = s.oid),
		(select count(*) from pg_subscription_rel r where r.srsubid = s.oid and r.srsubstate = 'r'),
		w.pid is not null, w.last_msg_receipt_time, coalesce(e.apply_error_count, 0),
		h.id is not null, coalesce(h.epoch, 0), coalesce(h.position, 0), h.as_of, q.last_value, clock_timestamp()
		from site_seq q
		left join feed_head h on true
		left join pg_subscription s on s.subname = $1::text and s.subdbid = (select oid from pg_database where datname = current_database())
		left join pg_roles o on o.oid = s.subowner
		left join pg_stat_subscription w on w.subid = s.oid and w.relid is null and w.pid is not null
		left join pg_stat_subscription_stats e on e.subid = s.oid
		limit 1`, name).Scan(&v.Exists, &v.Enabled, &v.Slot, &v.Wrong, &v.Tables, &v.InStep,
		&v.Worker, &lastMsg, &v.Errors, &v.HasHead, &v.Epoch, &v.Position, &asOf, &v.SiteSeq, &v.Clock)
	if err != nil {
		return Subscription{}, fmt.Errorf("reading the subscription: %w", pg.Plain(err))
	}
	if asOf != nil {
		v.AsOf = asOf.UTC()
	}
	if lastMsg != nil {
		v.LastMsg = lastMsg.UTC()
	}
	return v, nil
}

// EnableSubscription enables or disables a subscription of the site.
func (s *DB) EnableSubscription(ctx context.Context, name string, enabled bool) error {
	if _, err := s.pool.Exec(ctx, "select subscription_enable($1, $2)", name, enabled); err != nil {
		return fmt.Errorf("setting subscription %s enabled=%v: %w", name, enabled, pg.Plain(err))
	}
	return nil
}

// ConnectSubscription sets a subscription's connection to the master, which may have changed since
// it was made.
func (s *DB) ConnectSubscription(ctx context.Context, name string, to *upstream.DB) error {
	_, err := s.pool.Exec(ctx, "select subscription_connect($1, $2, $3, $4, $5, $6, $7)", to.Address(name)...)
	if err != nil {
		return fmt.Errorf("giving subscription %s its way to the master: %w", name, pg.Plain(err))
	}
	return nil
}

// SetAccessDenied records why the master no longer lets this site in, for ocspd; an empty text: it
// does.
func (s *DB) SetAccessDenied(ctx context.Context, why string) error {
	_, err := s.pool.Exec(ctx, "update site_state set access_denied = nullif($1, '') where coalesce(access_denied, '') <> $1", why)
	if err != nil {
		return fmt.Errorf("recording that the master bars this site: %w", pg.Plain(err))
	}
	return nil
}

// AccessDenied reads what SetAccessDenied recorded.
func (s *DB) AccessDenied(ctx context.Context) (string, error) {
	var why string
	if err := s.pool.QueryRow(ctx, "select coalesce(max(access_denied), '') from site_state").Scan(&why); err != nil {
		return "", fmt.Errorf("reading whether the master bars this site: %w", pg.Plain(err))
	}
	return why, nil
}

// SetSkew records how far this site's clock is ahead of the master's, for ocspd.
func (s *DB) SetSkew(ctx context.Context, skew time.Duration, at time.Time) error {
	_, err := s.pool.Exec(ctx, "update site_state set skew_ms = $1, skew_at = $2", skew.Milliseconds(), at.UTC())
	if err != nil {
		return fmt.Errorf("recording the clock skew: %w", pg.Plain(err))
	}
	return nil
}

// TrimTombstones deletes tombstones older than age and returns how many. A follower that was away
// for that long reads the whole copy again: trimmed_to moves in the same transaction.
func (s *DB) TrimTombstones(ctx context.Context, age time.Duration) (int64, error) {
	var trimmed int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var upTo *int64
		err := tx.QueryRow(ctx, "select max(site_seq) from site_tombstone where at < clock_timestamp() - $1::interval", age).Scan(&upTo)
		if err != nil || upTo == nil {
			return err
		}
		if _, err := tx.Exec(ctx, "update site_state set trimmed_to = greatest(trimmed_to, $1)", *upTo); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "delete from site_tombstone where site_seq <= $1", *upTo)
		trimmed = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("trimming tombstones: %w", pg.Plain(err))
	}
	return trimmed, nil
}
