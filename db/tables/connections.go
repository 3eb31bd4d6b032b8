package tables

import (
	"context"
	"fmt"
	"strings"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// ConnectionLimits compares the connections that the project's logins may use together with those
// that exist.
type ConnectionLimits struct {
	Max, Reserved int      // max_connections, and how many of them are kept for superusers
	Sum           int      // of the limits
	Logins        int      // of the project
	Unlimited     []string // names of those without a limit
}

// Fit says whether no login of the project can block another.
func (c ConnectionLimits) Fit() bool { return len(c.Unlimited) == 0 && c.Sum <= c.Max-c.Reserved }

// ConnectionLimits adds up the limits of all logins of the project's groups in the cluster.
func (s *DB) ConnectionLimits(ctx context.Context) (ConnectionLimits, error) {
	var c ConnectionLimits
	var unlimited string
	// reserved_connections exists since PostgreSQL 16.
	err := s.pool.QueryRow(ctx, `select current_setting('max_connections')::int,
		current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0),
		coalesce(sum(rolconnlimit) filter (where rolconnlimit >= 0), 0)::int, count(*)::int,
		coalesce(string_agg(rolname, ',' order by rolname) filter (where rolconnlimit < 0), '')
		from pg_roles r where rolcanlogin and not rolsuper
		and exists (select from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid and g.rolname = any ($1))`, db.Roles).
		Scan(&c.Max, &c.Reserved, &c.Sum, &c.Logins, &unlimited)
	if err != nil {
		return ConnectionLimits{}, fmt.Errorf("adding up the logins' connections: %w", pg.Plain(err))
	}
	if unlimited != "" {
		c.Unlimited = strings.Split(unlimited, ",")
	}
	return c, nil
}
