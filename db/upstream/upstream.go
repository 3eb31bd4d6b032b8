package upstream

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

// DB is the master's database as a site sees it: a login in ocsp_replica
// with the REPLICATION attribute. It is trusted with everything but its clock.
type DB struct {
	*tables.DB
	pool    *pg.Pool
	conn    *pgx.ConnConfig // with the password
	sslmode string          // as libpq calls it, for the subscription's worker
}

// Open prepares the way to the master; it connects on first use.
func Open(ctx context.Context, cfg pg.Config) (*DB, error) {
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 2
	}
	pool, err := pg.OpenPool(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing the way to the master: %w", err)
	}
	u := &DB{DB: tables.New(pool), pool: pool, conn: pool.Config().ConnConfig, sslmode: sslModeOf(cfg.DSN)}
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
func (u *DB) Slots(ctx context.Context, site string) ([]db.Slot, error) {
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
func (u *DB) DropSlot(ctx context.Context, name string) error {
	if _, err := u.pool.Exec(ctx, "select pg_drop_replication_slot($1)", name); err != nil {
		return fmt.Errorf("dropping slot %s: %w", name, pg.Plain(err))
	}
	return nil
}

// Clock asks for the master's clock.
func (u *DB) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := u.pool.QueryRow(ctx, "select clock_timestamp()").Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("asking for the master's clock: %w", pg.Plain(err))
	}
	return now.UTC(), nil
}

// replicationConn opens a walsender connection, for commands of the replication protocol.
func (u *DB) replicationConn(ctx context.Context) (*pgconn.PgConn, error) {
	cfg := u.conn.Copy()
	cfg.RuntimeParams["replication"] = "database"
	return pgconn.ConnectConfig(ctx, &cfg.Config)
}

// Address is what subscription_connect and subscription_create want to know.
func (u *DB) Address(subscription string) []any {
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

// Column is one column of a replicated table.
type Column struct {
	Table, Name, Type string
	Needed            bool // not null without a default: a row cannot come without it
}

// Published lists the columns that the master's publication carries.
func (u *DB) Published(ctx context.Context) ([]Column, error) {
	rows, err := u.pool.Query(ctx, `select p.tablename, a.attname, format_type(a.atttypid, a.atttypmod), false
		from pg_publication_tables p
		join pg_attribute a on a.attrelid = format('%I.%I', p.schemaname, p.tablename)::regclass and a.attname = any (p.attnames)
		where p.pubname = $1 and a.attnum > 0 and not a.attisdropped order by p.tablename, a.attnum`, db.SubscriptionName)
	if err != nil {
		return nil, fmt.Errorf("reading what the master publishes: %w", pg.Plain(err))
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Column])
	if err != nil {
		return nil, fmt.Errorf("reading what the master publishes: %w", pg.Plain(err))
	}
	return columns, nil
}
