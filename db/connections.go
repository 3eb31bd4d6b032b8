package db

import (
	"context"
	"fmt"
	"strings"
)

// maxConnections is PostgreSQL's own bound of max_connections.
const maxConnections = 262143

// Connections is how many connections a login of the group may have at a time. Without a
// limit one stolen password, or one program that leaks them, keeps everybody out.
func (r Role) Connections() int {
	switch r {
	case RoleReplica:
		return 8 // a subscription, a seed and its slot, two to look, and their successors while a broken line lingers
	case RoleOperator:
		return 4 // a person: two runs of ocspctl
	case RoleCA:
		return 32 // the CA's software brings a pool
	}
	return 16 // a daemon: its pool of 4, one that listens, their successors
}

// ConnectionLimits is what our logins may take together, and what there is.
type ConnectionLimits struct {
	Max, Reserved int      // max_connections, and how many of them are kept for superusers
	Sum           int      // of the limits
	Logins        int      // of ours
	Unlimited     []string // names of those without a limit
}

// Fit says whether no login of ours can keep another out.
func (c ConnectionLimits) Fit() bool { return len(c.Unlimited) == 0 && c.Sum <= c.Max-c.Reserved }

// ConnectionLimits adds up the limits of all logins of our groups in the cluster.
func (s *Common) ConnectionLimits(ctx context.Context) (ConnectionLimits, error) {
	var c ConnectionLimits
	var unlimited string
	// reserved_connections is since PostgreSQL 16.
	err := s.pool.QueryRow(ctx, `select current_setting('max_connections')::int,
		current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0),
		coalesce(sum(rolconnlimit) filter (where rolconnlimit >= 0), 0)::int, count(*)::int,
		coalesce(string_agg(rolname, ',' order by rolname) filter (where rolconnlimit < 0), '')
		from pg_roles r where rolcanlogin and not rolsuper
		and exists (select from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid and g.rolname = any ($1))`, roles).
		Scan(&c.Max, &c.Reserved, &c.Sum, &c.Logins, &unlimited)
	if err != nil {
		return ConnectionLimits{}, fmt.Errorf("adding up the logins' connections: %w", plain(err))
	}
	if unlimited != "" {
		c.Unlimited = strings.Split(unlimited, ",")
	}
	return c, nil
}
