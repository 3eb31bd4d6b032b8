package tables

import (
	"context"
	"errors"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// Account is a login of the cluster that is in one of the project's groups.
type Account struct {
	Name        string
	Groups      []string
	Kind        string // person or service; empty at a site
	Connections int    // at most, at a time; below 0: no limit
	Sessions    int    // now, in all databases
	Site        string // at the master: the login's site; empty: it belongs to no site
}

// Logins lists the accounts by name. A cluster's logins are the same in all its databases.
func (s *DB) Logins(ctx context.Context) ([]Account, error) {
	var master bool
	err := s.pool.QueryRow(ctx, "select to_regclass('ocsp_internal.responder_credential') is not null").Scan(&master)
	var rows pgx.Rows
	if err == nil {
		kind, site := "''", "''"
		if master {
			kind = "coalesce((select k.kind from ocsp_internal.login_kind k where k.login = r.rolname), '')"
			site = "coalesce((select m.site from ocsp_internal.responder_credential m where m.kind = 'login' and m.value = r.rolname), '')"
		}
		rows, err = s.pool.Query(ctx, `select r.rolname::text, array_agg(g.rolname::text order by g.rolname), `+kind+`, r.rolconnlimit,
			(select count(*)::int from pg_stat_activity a where a.usesysid = r.oid), `+site+`
			from pg_roles r join pg_auth_members m on m.member = r.oid join pg_roles g on g.oid = m.roleid
			where r.rolcanlogin and g.rolname = any ($1) group by r.oid, r.rolname, r.rolconnlimit order by r.rolname`, db.Roles)
	}
	var logins []Account
	if err == nil {
		logins, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Account])
	}
	if err != nil {
		return nil, fmt.Errorf("listing the logins: %w", pg.Plain(err))
	}
	return logins, nil
}

// ErrNoLogin says that the project's groups have no login of that name.
var ErrNoLogin = errors.New("no such login in a group of ours")

// RemoveLogin drops a login; EndSessions ends its sessions. A site's login is removed with its
// site (RevokeResponder), and a login cannot remove itself. The store's own login must be a
// superuser. At the master the audit records it.
func (s *DB) RemoveLogin(ctx context.Context, name string, act db.Act) (is Account, err error) {
	logins, err := s.Logins(ctx)
	if err != nil {
		return is, err
	}
	for _, l := range logins {
		if l.Name == name {
			is = l
		}
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var own, superuser bool
		err := tx.QueryRow(ctx, "select $1 = session_user, coalesce((select rolsuper from pg_roles where rolname = $1), false)", name).Scan(&own, &superuser)
		switch {
		case err != nil:
			return err
		case is.Name == "":
			return ErrNoLogin
		case own || superuser:
			return errors.New("it is your own, or a superuser's: another superuser drops it by DROP ROLE")
		case is.Site != "":
			return fmt.Errorf("it is of site %s: it is closed with the site (ocspctl responder revoke %s)", is.Site, is.Site)
		}
		if _, err := tx.Exec(ctx, "drop role "+pgx.Identifier{name}.Sanitize()); err != nil {
			return err
		}
		if is.Kind != "" {
			if _, err := tx.Exec(ctx, "delete from ocsp_internal.login_kind where login = $1", name); err != nil {
				return err
			}
		}
		_, err = Note(ctx, tx, "db user remove", map[string]any{"login": name, "groups": is.Groups}, act)
		return err
	})
	if err != nil {
		return is, fmt.Errorf("removing login %q: %w", name, pg.Plain(err))
	}
	return is, nil
}

// EndSessions ends the sessions that a removed login still has, and returns how many: they would
// continue with their rights.
func (s *DB) EndSessions(ctx context.Context) (ended int, err error) {
	return pg.Value[int](ctx, s.pool, "ending the sessions of a login that is gone", `select count(*) filter (where pg_terminate_backend(a.pid))::int from pg_stat_activity a
		where a.usesysid is not null and not exists (select from pg_roles r where r.oid = a.usesysid)`)
}
