package pg

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pool is the connections to one database of the fleet, a site's or the master's, or one
// transaction at the master (Pool.Try). Safe for concurrent use.
type Pool struct {
	conns

	mu       sync.Mutex          // guards backends
	backends map[uint32]struct{} // the PostgreSQL processes that serve this pool
}

// Config says how to reach a database.
type Config struct {
	// DSN is a libpq URL or keyword string. Its password may stand in
	// PasswordFile instead.
	DSN string
	// PasswordFile holds the password of the DSN's user; a trailing newline is
	// ignored. Empty: the DSN's own.
	PasswordFile string
	// MaxConns bounds the pool. Default 4: look-ups go to memory, not here.
	MaxConns int32
	// Application is shown in pg_stat_activity.
	Application string
}

// ConnectTimeout bounds one attempt to reach the database.
const ConnectTimeout = 10 * time.Second

// OpenPool prepares a pool; it connects on first use, so that a daemon can start
// while its database is away.
func OpenPool(_ context.Context, cfg Config) (*Pool, error) {
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("reading the database address: %w", err)
	}
	if cfg.PasswordFile != "" {
		if pc.ConnConfig.Password, err = readSecret(cfg.PasswordFile); err != nil {
			return nil, fmt.Errorf("reading the database password: %w", err)
		}
	}
	pc.MaxConns = 4
	if cfg.MaxConns > 0 {
		pc.MaxConns = cfg.MaxConns
	}
	if pc.ConnConfig.ConnectTimeout == 0 {
		pc.ConnConfig.ConnectTimeout = ConnectTimeout
	}
	if cfg.Application != "" {
		pc.ConnConfig.RuntimeParams["application_name"] = cfg.Application
	}
	pc.ConnConfig.AfterConnect = setSession // of the listening and the replication connections, too
	s := &Pool{backends: map[uint32]struct{}{}}
	pc.AfterConnect = func(_ context.Context, conn *pgx.Conn) error { s.serves(conn, true); return nil }
	pc.BeforeClose = func(conn *pgx.Conn) { s.serves(conn, false) }
	// A connection is asked whether it lives before each use: a write that breaks
	// on the corpse of one, after PostgreSQL was restarted, cannot be tried again
	// blindly. It costs 50 us, and no look-up comes here. Pool.open does without.
	pc.ShouldPing = func(ctx context.Context, _ pgxpool.ShouldPingParams) bool { return ctx.Value(skipPing{}) == nil }
	// NewWithConfig connects in the background only when MinConns asks for it.
	if s.conns, err = pgxpool.NewWithConfig(context.Background(), pc); err != nil {
		return nil, fmt.Errorf("preparing the database pool: %w", err)
	}
	return s, nil
}

func (s *Pool) serves(conn *pgx.Conn, serves bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if serves {
		s.backends[conn.PgConn().PID()] = struct{}{}
	} else {
		delete(s.backends, conn.PgConn().PID())
	}
}

// sessionSettings is what our sessions rely on, whatever a DBA has set for a database or
// a login. Set after connect: pgbouncer refuses most of them in the startup packet.
// The timeout first: the rest must have no part of it. No just-in-time compiler: it takes
// 0.2 s for what runs 3 ms, the watchdog's look for one. What was committed is on the disk;
// a stricter setting of the DBA's (remote_apply) stands. transaction_timeout is since
// PostgreSQL 17.
const sessionSettings = `set statement_timeout = 0;
set session characteristics as transaction isolation level read committed, read write;
set quote_all_identifiers = off;
set search_path = public, ocsp_feed, ocsp_internal, pg_temp;
set client_encoding = 'UTF8';
set timezone = 'UTC';
set datestyle = 'ISO, MDY';
set intervalstyle = 'postgres';
set bytea_output = 'hex';
set standard_conforming_strings = on;
set array_nulls = on;
set transform_null_equals = off;
set lock_timeout = 0;
set idle_session_timeout = 0;
set jit = off;
set idle_in_transaction_session_timeout = 0;
select set_config('transaction_timeout', '0', false) where current_setting('transaction_timeout', true) is not null;
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`

func setSession(ctx context.Context, conn *pgconn.PgConn) error {
	if _, err := conn.Exec(ctx, sessionSettings).ReadAll(); err != nil {
		return fmt.Errorf("preparing the session: %w", err)
	}
	return nil
}

// Own are the PostgreSQL processes that serve this pool.
func (s *Pool) Own() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pids []int32
	for _, pid := range slices.Sorted(maps.Keys(s.backends)) {
		pids = append(pids, int32(pid))
	}
	return pids
}

// Querier is a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
