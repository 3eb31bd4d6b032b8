package tables

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// Login is the login of a store, and its rights.
type Login struct {
	Name      string
	Superuser bool
	Groups    []db.Role // of the project
	Writes    []string  // tables of the project that it may change directly
	SeesAll   bool      // it may see what other sessions do
}

// Login reads this store's login.
func (s *DB) Login(ctx context.Context) (Login, error) {
	var l Login
	var groups []string
	err := s.pool.QueryRow(ctx, `select session_user, r.rolsuper,
		array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid and g.rolname = any ($1) order by 1),
		array(select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('public', 'ocsp_feed', 'ocsp_internal') and c.relkind = 'r'
		      and (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') or has_any_column_privilege(c.oid, 'INSERT, UPDATE')) order by 1),
		pg_has_role('pg_read_all_stats', 'usage')
		from pg_roles r where r.rolname = session_user`, db.Roles).Scan(&l.Name, &l.Superuser, &groups, &l.Writes, &l.SeesAll)
	if err != nil {
		return Login{}, fmt.Errorf("asking the database who this login is: %w", pg.Plain(err))
	}
	for _, g := range groups {
		l.Groups = append(l.Groups, db.Role(g))
	}
	return l, nil
}

// FeedFiles counts the files of the feed at a site.
type FeedFiles struct {
	Segments, SegmentOctets   int64
	Snapshots, SnapshotOctets int64
}

// FeedFiles counts the files.
func (s *DB) FeedFiles(ctx context.Context) (FeedFiles, error) {
	var f FeedFiles
	err := s.pool.QueryRow(ctx, `select count(*), coalesce(sum(octet_length(body) + octet_length(note)), 0), (select count(*) from snapshot),
		(select coalesce(sum(octets), 0) from snapshot) from segment`).Scan(&f.Segments, &f.SegmentOctets, &f.Snapshots, &f.SnapshotOctets)
	if err != nil {
		return FeedFiles{}, fmt.Errorf("counting the feed's files: %w", pg.Plain(err))
	}
	return f, nil
}
