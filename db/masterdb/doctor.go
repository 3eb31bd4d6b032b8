package masterdb

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

// SlotState is the state of one follower's slot at the master.
type SlotState struct {
	Name   string
	Active bool
	Status string // reserved, extended, unreserved or lost
	Lag    int64  // octets of WAL kept for it
	// Site is the slot's site; empty: it belongs to no site on the roster that is not revoked.
	// Allowed says that the DBA wants it (AllowSlot).
	Site    string
	Allowed bool
}

// MasterState is the state of the master's database, without its head.
type MasterState struct {
	Version       string // of PostgreSQL
	Standby       bool
	WALLevel      string
	Durable       bool  // fsync, full_page_writes and synchronous_commit are on
	MaxPrepared   int   // max_prepared_transactions
	Prepared      int   // prepared transactions now
	MaxSlotKeep   int64 // max_slot_wal_keep_size in octets; -1: no limit
	Clock         time.Time
	Confirmed     time.Time // the last heartbeat; zero: none yet
	Published     int       // tables in the publication
	Slots         []SlotState
	Idle          []string // sessions idle in a transaction for over 5 s, as far as the login may see them
	ReplicasSlack int      // walsenders and slots still free, the smaller number
	Queue         float64  // how full the queue of notifications is, 0 to 1
	OldSnapshots  []string // sessions and slots that keep dead rows from being removed, for over 10 minutes or 1 M transactions
}

// MasterState reads the state; a login of any of the project's groups may.
func (s *DB) MasterState(ctx context.Context) (MasterState, error) {
	var m MasterState
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `select current_setting('server_version'), pg_is_in_recovery(), current_setting('wal_level'),
			current_setting('fsync')::bool and current_setting('full_page_writes')::bool and (select reset_val <> 'off' from pg_settings where name = 'synchronous_commit'),
			current_setting('max_prepared_transactions')::int, (select count(*) from pg_prepared_xacts where database = current_database()),
			(select case when setting::bigint < 0 then -1 else setting::bigint * 1048576 end from pg_settings where name = 'max_slot_wal_keep_size'),
			clock_timestamp(), (select count(*) from pg_publication_tables where pubname = $1),
			least(current_setting('max_replication_slots')::int - (select count(*) from pg_replication_slots),
			      current_setting('max_wal_senders')::int - (select count(*) from pg_stat_replication))`, db.SubscriptionName).
			Scan(&m.Version, &m.Standby, &m.WALLevel, &m.Durable, &m.MaxPrepared, &m.Prepared, &m.MaxSlotKeep, &m.Clock, &m.Published, &m.ReplicasSlack)
		if err != nil {
			return err
		}
		if m.Confirmed, err = confirmedAt(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select s.slot_name::text, active, coalesce(wal_status, 'lost'),
			coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, restart_lsn), 0)::bigint,
			coalesce(h.site, ''), h.allowed
			from pg_replication_slots s join slot_holders() h using (slot_name) where not temporary order by 1`)
		if err != nil {
			return err
		}
		if m.Slots, err = pgx.CollectRows(rows, pgx.RowToStructByPos[SlotState]); err != nil {
			return err
		}
		if m.Idle, err = tables.Texts(ctx, tx, `select format('pid %s user %s application %s since %s', pid, usename, coalesce(nullif(application_name, ''), '-'), date_trunc('second', xact_start))
			from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'
			and xact_start < clock_timestamp() - interval '5 s' order by xact_start`); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "select pg_notification_queue_usage()").Scan(&m.Queue); err != nil {
			return err
		}
		m.OldSnapshots, err = tables.Texts(ctx, tx, `select format('pid %s user %s application %s since %s', pid, usename, coalesce(nullif(application_name, ''), '-'), date_trunc('second', xact_start))
			from pg_stat_activity where backend_xmin is not null and xact_start < clock_timestamp() - interval '10 min'
			union all select format('slot %s, %s transactions behind', slot_name, greatest(age(xmin), age(catalog_xmin)))
			from pg_replication_slots where greatest(age(xmin), age(catalog_xmin)) > 1000000 order by 1`)
		return err
	})
	if err != nil {
		return MasterState{}, fmt.Errorf("asking the master's database how it stands: %w", pg.Plain(err))
	}
	m.Clock = m.Clock.UTC()
	return m, nil
}

// confirmedAt returns the last heartbeat; a login of ocsp_ca may not see it.
func confirmedAt(ctx context.Context, tx pgx.Tx) (time.Time, error) {
	var may bool
	if err := tx.QueryRow(ctx, "select has_table_privilege('ocsp_internal.heartbeat', 'SELECT')").Scan(&may); err != nil || !may {
		return time.Time{}, err
	}
	var at time.Time
	err := tx.QueryRow(ctx, "select confirmed_at from ocsp_internal.heartbeat").Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	return at.UTC(), err
}
