package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Login is who a store is logged in as, and what that may do.
type Login struct {
	Name      string
	Superuser bool
	Groups    []Role   // of ours
	Writes    []string // tables of ours that it may change directly
	SeesAll   bool     // it is shown what other sessions do
}

// Login asks the database who we are to it.
func (s *Common) Login(ctx context.Context) (Login, error) {
	var l Login
	var groups []string
	err := s.pool.QueryRow(ctx, `select session_user, r.rolsuper,
		array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid and g.rolname = any ($1) order by 1),
		array(select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('public', 'ocsp_feed', 'ocsp_internal') and c.relkind = 'r'
		      and (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') or has_any_column_privilege(c.oid, 'INSERT, UPDATE')) order by 1),
		pg_has_role('pg_read_all_stats', 'usage')
		from pg_roles r where r.rolname = session_user`, roles).Scan(&l.Name, &l.Superuser, &groups, &l.Writes, &l.SeesAll)
	if err != nil {
		return Login{}, fmt.Errorf("asking the database who this login is: %w", plain(err))
	}
	for _, g := range groups {
		l.Groups = append(l.Groups, Role(g))
	}
	return l, nil
}

// SlotState is what the master keeps for one follower.
type SlotState struct {
	Name   string
	Active bool
	Status string // reserved, extended, unreserved or lost
	Lag    int64  // octets of WAL kept for it
	// Site is whose it is; empty: no site's on the roster that is not revoked. Allowed
	// says that the DBA wants it (AllowSlot).
	Site    string
	Allowed bool
}

// MasterState is how the master's database stands, beside its head.
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
	Idle          []string // sessions idle in a transaction for over 5 s, as far as the login is shown them
	ReplicasSlack int      // walsenders and slots still free, the lesser
	Queue         float64  // how full the queue of notifications is, 0 to 1
	OldSnapshots  []string // sessions and slots that keep dead rows from being cleared, for over 10 minutes or 1 M transactions
}

// MasterState reads it; any group of ours may.
func (s *Master) MasterState(ctx context.Context) (MasterState, error) {
	var m MasterState
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `select current_setting('server_version'), pg_is_in_recovery(), current_setting('wal_level'),
			current_setting('fsync')::bool and current_setting('full_page_writes')::bool and (select reset_val <> 'off' from pg_settings where name = 'synchronous_commit'),
			current_setting('max_prepared_transactions')::int, (select count(*) from pg_prepared_xacts where database = current_database()),
			(select case when setting::bigint < 0 then -1 else setting::bigint * 1048576 end from pg_settings where name = 'max_slot_wal_keep_size'),
			clock_timestamp(), (select count(*) from pg_publication_tables where pubname = $1),
			least(current_setting('max_replication_slots')::int - (select count(*) from pg_replication_slots),
			      current_setting('max_wal_senders')::int - (select count(*) from pg_stat_replication))`, SubscriptionName).
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
		if m.Idle, err = texts(ctx, tx, `select format('pid %s user %s application %s since %s', pid, usename, coalesce(nullif(application_name, ''), '-'), date_trunc('second', xact_start))
			from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'
			and xact_start < clock_timestamp() - interval '5 s' order by xact_start`); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "select pg_notification_queue_usage()").Scan(&m.Queue); err != nil {
			return err
		}
		m.OldSnapshots, err = texts(ctx, tx, `select format('pid %s user %s application %s since %s', pid, usename, coalesce(nullif(application_name, ''), '-'), date_trunc('second', xact_start))
			from pg_stat_activity where backend_xmin is not null and xact_start < clock_timestamp() - interval '10 min'
			union all select format('slot %s, %s transactions behind', slot_name, greatest(age(xmin), age(catalog_xmin)))
			from pg_replication_slots where greatest(age(xmin), age(catalog_xmin)) > 1000000 order by 1`)
		return err
	})
	if err != nil {
		return MasterState{}, fmt.Errorf("asking the master's database how it stands: %w", plain(err))
	}
	m.Clock = m.Clock.UTC()
	return m, nil
}

// confirmedAt is the last heartbeat; a login of ocsp_ca may not see it.
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

func texts(ctx context.Context, q querier, sql string) ([]string, error) {
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// FeedFiles is what a site keeps of the feed.
type FeedFiles struct {
	Segments, SegmentOctets   int64
	Snapshots, SnapshotOctets int64
}

// FeedFiles counts them.
func (s *Common) FeedFiles(ctx context.Context) (FeedFiles, error) {
	var f FeedFiles
	err := s.pool.QueryRow(ctx, `select count(*), coalesce(sum(octet_length(body) + octet_length(note)), 0), (select count(*) from snapshot),
		(select coalesce(sum(octets), 0) from snapshot) from segment`).Scan(&f.Segments, &f.SegmentOctets, &f.Snapshots, &f.SnapshotOctets)
	if err != nil {
		return FeedFiles{}, fmt.Errorf("counting the feed's files: %w", plain(err))
	}
	return f, nil
}
