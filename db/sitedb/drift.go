package sitedb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/upstream"

	"github.com/jackc/pgx/v5"
)

// Drift says how the master's published columns and the site's tables differ; empty: not in a way
// that stops rows. A site may have more columns, with defaults: sites are migrated first.
func (s *DB) Drift(ctx context.Context, master *upstream.DB) (string, error) {
	published, err := master.Published(ctx)
	if err != nil {
		return "", err
	}
	local, err := s.columns(ctx)
	if err != nil {
		return "", err
	}
	return drift(published, local), nil
}

func drift(published, local []upstream.Column) string {
	find := func(in []upstream.Column, c upstream.Column) (upstream.Column, bool) {
		at := slices.IndexFunc(in, func(o upstream.Column) bool { return o.Table == c.Table && o.Name == c.Name })
		if at < 0 {
			return upstream.Column{}, false
		}
		return in[at], true
	}
	var found []string
	for _, table := range db.ReplicatedTables {
		if !slices.ContainsFunc(published, func(c upstream.Column) bool { return c.Table == table }) {
			found = append(found, "the master does not publish table "+table)
		}
	}
	for _, p := range published {
		switch l, ok := find(local, p); {
		case !ok:
			found = append(found, fmt.Sprintf("the master publishes %s.%s, which the site has not: migrate the site first (ocspctl db migrate --repair there)", p.Table, p.Name))
		case l.Type != p.Type:
			found = append(found, fmt.Sprintf("%s.%s is %s at the master and %s here", p.Table, p.Name, p.Type, l.Type))
		}
	}
	for _, l := range local {
		if _, ok := find(published, l); !ok && l.Needed {
			found = append(found, fmt.Sprintf("the site needs %s.%s, which the master does not publish: migrate the master", l.Table, l.Name))
		}
	}
	return strings.Join(found, "; ")
}

// columns lists the columns of the replicated tables here.
func (s *DB) columns(ctx context.Context) ([]upstream.Column, error) {
	rows, err := s.pool.Query(ctx, `select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull and not a.atthasdef
		from pg_class c join pg_attribute a on a.attrelid = c.oid
		where c.relnamespace = 'public'::regnamespace and c.relname = any ($1) and c.relkind = 'r'
		and a.attnum > 0 and not a.attisdropped order by c.relname, a.attnum`, db.ReplicatedTables)
	if err != nil {
		return nil, fmt.Errorf("reading the columns of the site's tables: %w", pg.Plain(err))
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[upstream.Column])
	if err != nil {
		return nil, fmt.Errorf("reading the columns of the site's tables: %w", pg.Plain(err))
	}
	return columns, nil
}
