package sitedb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// replicated are the published tables, in the order in which they are copied.
var replicated = []string{"feed_head", "issuer", "responder_certificate", "correction", "closed_pin", "certificate"}

// Upstream is the master's database as a site sees it: a login in ocsp_replica
// with the REPLICATION attribute. It is trusted with everything but its clock.
type Upstream struct {
	*tables.DB
	pool    *pg.Pool
	conn    *pgx.ConnConfig // with the password
	sslmode string          // as libpq calls it, for the subscription's worker
}

// OpenUpstream prepares the way to the master; it connects on first use.
func OpenUpstream(ctx context.Context, cfg pg.Config) (*Upstream, error) {
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 2
	}
	pool, err := pg.OpenPool(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing the way to the master: %w", err)
	}
	u := &Upstream{DB: tables.New(pool), pool: pool, conn: pool.Config().ConnConfig, sslmode: sslModeOf(cfg.DSN)}
	for _, f := range u.conn.Fallbacks {
		if f.Host != u.conn.Host || f.Port != u.conn.Port {
			pool.Close()
			return nil, fmt.Errorf("preparing the way to the master: the address names several hosts (%s, %s): a subscription follows one", u.conn.Host, f.Host)
		}
	}
	return u, nil
}

var keywordSSLMode = regexp.MustCompile(`(?:^|\s)sslmode\s*=\s*'?([a-z-]+)`)

// sslModeOf reads sslmode from a DSN: pgx turns it into a TLS configuration, but
// PostgreSQL's own client wants the word.
func sslModeOf(dsn string) string {
	if u, err := url.Parse(dsn); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		if mode := u.Query().Get("sslmode"); mode != "" {
			return mode
		}
		return "prefer"
	}
	if m := keywordSSLMode.FindStringSubmatch(dsn); m != nil {
		return m[1]
	}
	return "prefer"
}

// Slots lists the site's own slots, never another site's.
func (u *Upstream) Slots(ctx context.Context, site string) ([]db.Slot, error) {
	rows, err := u.pool.Query(ctx, `select slot_name, active, coalesce(wal_status, ''),
		coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, restart_lsn), 0)::bigint, 0
		from pg_replication_slots where slot_type = 'logical' and slot_name ~ ('^' || $1 || '[0-9]+$') order by 1`, db.SlotPrefix(site))
	if err != nil {
		return nil, fmt.Errorf("listing the master's slots: %w", pg.Plain(err))
	}
	slots, err := pgx.CollectRows(rows, pgx.RowToStructByPos[db.Slot])
	if err != nil {
		return nil, fmt.Errorf("listing the master's slots: %w", pg.Plain(err))
	}
	return slots, nil
}

// DropSlot drops a slot that nobody streams from.
func (u *Upstream) DropSlot(ctx context.Context, name string) error {
	if _, err := u.pool.Exec(ctx, "select pg_drop_replication_slot($1)", name); err != nil {
		return fmt.Errorf("dropping slot %s: %w", name, pg.Plain(err))
	}
	return nil
}

// Clock asks for the master's clock.
func (u *Upstream) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := u.pool.QueryRow(ctx, "select clock_timestamp()").Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("asking for the master's clock: %w", pg.Plain(err))
	}
	return now.UTC(), nil
}

// replicationConn opens a walsender connection, for commands of the replication protocol.
func (u *Upstream) replicationConn(ctx context.Context) (*pgconn.PgConn, error) {
	cfg := u.conn.Copy()
	cfg.RuntimeParams["replication"] = "database"
	return pgconn.ConnectConfig(ctx, &cfg.Config)
}

// Subscription is what the site's database says of its subscription and its copy.
type Subscription struct {
	Exists   bool
	Enabled  bool
	Slot     string
	Wrong    string // why it is not as we make it; empty: as it should be
	Tables   int64  // how many tables it feeds, and how many of them are in step
	InStep   int64
	Worker   bool      // an apply worker is running
	LastMsg  time.Time // receipt of the master's last message by this worker; zero: none yet
	Errors   int64     // failures of the worker so far, lost connections included
	HasHead  bool
	Epoch    int64
	Position int64
	AsOf     time.Time
	SiteSeq  int64 // the last number given to a local change; moves with every change, whoever makes it
	Clock    time.Time
}

// Tables is how many tables the subscription of the rows must feed, FilesTables that of
// the files.
const (
	Tables      = 6
	FilesTables = 3
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

// ConnectSubscription tells a subscription the way to the master, which may
// have changed since it was made.
func (s *DB) ConnectSubscription(ctx context.Context, name string, to *Upstream) error {
	_, err := s.pool.Exec(ctx, "select subscription_connect($1, $2, $3, $4, $5, $6, $7)", to.address(name)...)
	if err != nil {
		return fmt.Errorf("giving subscription %s its way to the master: %w", name, pg.Plain(err))
	}
	return nil
}

// address is what subscription_connect and subscription_create want to know.
func (u *Upstream) address(subscription string) []any {
	return []any{subscription, u.conn.Host, int32(u.conn.Port), u.conn.Database, u.conn.User, u.conn.Password, u.sslmode}
}

// IsAccessDenied says whether the master knows this login, and does not let it in: its
// site was suspended or revoked. A wrong password, or an address that pg_hba.conf
// does not admit, is something else. The routine is what tells the two apart:
// both have one SQLSTATE, and the text is translated.
func IsAccessDenied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "28000" && pg.Routine == "InitializeSessionUserId"
}

// SetAccessDenied records why the master no longer lets this site in, for ocspd; an
// empty text: it does.
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

// TrimTombstones forgets deletions older than age and returns how many. Who
// follows the copy and was asleep that long reads it anew: trimmed_to moves in
// the same transaction.
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
