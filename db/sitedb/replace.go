package sitedb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// Limits of a replacement. The copying as a whole has no limit: a slow line may take hours, and
// the site answers from its old rows in the meantime.
const (
	swapBase   = time.Minute       // the site's tables are locked: 200,000 rows/s are usual,
	swapPerRow = time.Minute / 1e6 // 16,000 rows/s still pass
)

// Source is the source of the rows of a new copy: a FeedSeed, or a MasterSeed.
type Source interface {
	// String returns its name for errors.
	String() string
	// begin prepares, end cleans up: an err means that the copy failed, and end returns the
	// reason.
	begin(ctx context.Context) error
	end(ctx context.Context, err error) error
	// columns returns the columns that it brings of a table; empty: it brings no rows of it.
	columns(table string) string
	// load writes the rows into s's tables, compares them with their head, and makes that head
	// s's.
	load(ctx context.Context, s *seed) error
	// settle writes what belongs to the rows.
	settle(ctx context.Context, s *seed) error
	// corrections returns what verifies corrections; why says why nothing does.
	corrections() (open db.OpenCorrections, why string)
}

// Seeded is the result of a replacement.
type Seeded struct {
	Head      db.Head
	Differing int64    // certificates that differed before
	Examples  []string // some of them
	SiteSeq   int64    // the last number of site_seq, before other programs could write
}

// Replace replaces the site's copy by the rows of a source, in one transaction: until it commits,
// readers see the old rows. Rows that differ from their head's counts, and rows that Adoption
// refuses (ErrRevocationsLost), change nothing.
func (s *DB) Replace(ctx context.Context, from Source) (Seeded, error) {
	var made *seed
	err := from.begin(ctx)
	if err == nil {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			made = &seed{tx: tx, from: from, prefix: "seed_"}
			return made.run(ctx)
		})
		err = from.end(ctx, err)
	}
	if err != nil {
		return Seeded{}, fmt.Errorf("seeding from %s: %w", from, pg.Plain(err))
	}
	return made.Seeded, nil
}

// seed is a replacement in progress.
type seed struct {
	Seeded
	tx     pgx.Tx
	from   Source
	prefix string // of the tables that get the rows; empty: the copy's own tables

	purgeBefore time.Time // goes with Head
}

// run does the whole replacement. Into an empty copy the rows are written directly: they are not
// visible before the commit, and no reader waits. Otherwise they are written into temporary
// tables, which block no reader, and then replace the old ones.
func (s *seed) run(ctx context.Context) error {
	empty, err := s.empty(ctx)
	if err != nil {
		return err
	}
	if empty {
		s.prefix = ""
	} else if err := s.stage(ctx); err != nil {
		return err
	}
	if err := s.from.load(ctx, s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, swapBase+time.Duration(s.Head.Certificates.Count)*swapPerRow)
	defer cancel()
	if !empty {
		if err := s.swap(ctx); err != nil {
			return err
		}
	}
	if err := s.from.settle(ctx, s); err != nil {
		return err
	}
	if err := s.tx.QueryRow(ctx, "select last_value from site_seq").Scan(&s.SiteSeq); err != nil {
		return fmt.Errorf("reading the last number of a change here: %w", err)
	}
	return nil
}

// empty says whether this site has no copy at all and remembers nothing, and then locks out other
// writers.
func (s *seed) empty(ctx context.Context) (bool, error) {
	look := "select not exists (select from site_revoked)"
	for _, table := range db.ReplicatedTables {
		look += " and not exists (select from " + table + ")"
	}
	var empty bool
	err := s.tx.QueryRow(ctx, look).Scan(&empty)
	if err == nil && empty {
		if _, err = s.tx.Exec(ctx, lockTables+"exclusive mode"); err == nil {
			err = s.tx.QueryRow(ctx, look).Scan(&empty)
		}
	}
	if err != nil {
		return false, fmt.Errorf("looking for an earlier copy: %w", err)
	}
	return empty, nil
}

// lockTables is the beginning of the statement that locks the copy's tables, in the order of the
// readers.
var lockTables = "lock table " + replicatedTables + " in "

var replicatedTables = strings.Join(db.ReplicatedTables, ", ")

// stage makes the temporary tables.
func (s *seed) stage(ctx context.Context) error {
	for _, table := range db.ReplicatedTables {
		sql := "create temp table seed_" + table + " (like public." + table + " including defaults) on commit drop"
		if table == "certificate" {
			sql += "; alter table seed_certificate drop column site_seq" // given when the row becomes visible
		}
		if _, err := s.tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("preparing the copy: %w", err)
		}
	}
	return nil
}

// swap replaces the old rows by the staged ones, and notes what changes. Readers wait from the
// lock to the commit.
func (s *seed) swap(ctx context.Context) error {
	if _, err := s.tx.Exec(ctx, "analyze seed_certificate; set local lock_timeout = '30s'"); err != nil {
		return fmt.Errorf("preparing the copy: %w", err)
	}
	if _, err := s.spare(ctx, func() error { return s.difference(ctx) }); err != nil {
		return err
	}
	if _, err := s.tx.Exec(ctx, lockTables+"access exclusive mode"); err != nil {
		return fmt.Errorf("locking the site's tables: %w", err)
	}
	if err := s.guard(ctx); err != nil {
		return err
	}
	if _, err := s.tx.Exec(ctx, "truncate "+replicatedTables); err != nil {
		return fmt.Errorf("emptying the site's tables: %w", err)
	}
	for _, table := range db.ReplicatedTables {
		columns := s.from.columns(table)
		if columns == "" {
			continue
		}
		if _, err := s.tx.Exec(ctx, fmt.Sprintf("insert into %s (%s) select %s from seed_%s", table, columns, columns, table)); err != nil {
			return fmt.Errorf("filling %s: %w", table, err)
		}
	}
	return nil
}

// difference notes what will change, as evidence; over an empty copy there is nothing to note.
func (s *seed) difference(ctx context.Context) error {
	var filled bool
	if err := s.tx.QueryRow(ctx, "select exists (select from certificate)").Scan(&filled); err != nil || !filled {
		return err
	}
	rows, err := s.tx.Query(ctx, `select count(*) over (), case when o.serial is null then 'missing' when n.serial is null then 'surplus' else 'different' end
		|| format(' %s/%s', coalesce(o.issuer_id, n.issuer_id), encode(coalesce(o.serial, n.serial), 'hex'))
		from certificate o full join seed_certificate n using (issuer_id, serial)
		where o.serial is null or n.serial is null or (o.not_after, o.revoked_at, o.reason) is distinct from (n.not_after, n.revoked_at, n.reason) limit 3`)
	if err != nil {
		return fmt.Errorf("comparing old and new rows: %w", err)
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var example string
		err := row.Scan(&s.Differing, &example)
		s.Examples = append(s.Examples, example)
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("comparing old and new rows: %w", err)
	}
	return nil
}

// spare runs f on the old copy, which will be replaced. If its pages are damaged it says so, and
// undoes what f did; the seed goes on.
func (s *seed) spare(ctx context.Context, f func() error) (damaged bool, err error) {
	point, err := s.tx.Begin(ctx) // a savepoint
	if err != nil {
		return false, err
	}
	if err = f(); err == nil {
		return false, point.Commit(ctx)
	}
	if undo := point.Rollback(ctx); undo != nil || !tables.Damaged(err) {
		return false, errors.Join(err, undo)
	}
	s.Examples = append(s.Examples, err.Error())
	return true, nil
}
