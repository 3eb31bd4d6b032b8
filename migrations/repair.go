package migrations

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Repaired says what Repair did: Done is what it put back, Emptied the tables of a site
// that were emptied for it, Refused what it could not put back, each with the reason.
type Repaired struct {
	Done    []string `json:"repaired,omitempty"`
	Emptied []string `json:"emptied,omitempty"`
	Refused []string `json:"refused,omitempty"`
}

// refetched are the tables of a site whose rows come from the master again, or are made
// again by its daemons: where a key or a column cannot be put back over them, they go.
var refetched = []string{
	"public.issuer", "public.certificate", "public.responder_certificate", "public.correction", "public.closed_pin", "public.feed_head",
	"ocsp_internal.segment", "ocsp_internal.feed_checkpoint", "ocsp_internal.feed_keys", "ocsp_internal.snapshot", "ocsp_internal.snapshot_chunk",
	"ocsp_feed.segment", "ocsp_feed.feed_checkpoint", "ocsp_feed.feed_keys", "ocsp_internal.feed_anchor", "ocsp_internal.site_tombstone",
}

// Repair is Up, and puts back what of the schema is gone or otherwise than the migrations
// made it. How it must be, a database says that is migrated for it and dropped again. No
// row of the master is touched; what cannot be had without is refused.
func Repair(ctx context.Context, url string, role Role) (Repaired, error) {
	if err := migrateUp(ctx, url, role); err != nil {
		return Repaired{}, err
	}
	pool, err := open(ctx, url)
	if err != nil {
		return Repaired{}, err
	}
	defer pool.Close()
	want, err := pristine(ctx, pool, url, role)
	if err != nil {
		return Repaired{}, fmt.Errorf("asking a new database how the schema must be: %w", err)
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return Repaired{}, fmt.Errorf("repairing the schema: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	r := repair{tx: tx, role: role, want: want, tried: map[string]int{}}
	if err := r.run(ctx); err != nil {
		return Repaired{}, fmt.Errorf("repairing the schema: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return Repaired{}, fmt.Errorf("repairing the schema: %w", err)
	}
	if err := SetRights(ctx, url, role); err != nil && len(r.Refused) == 0 { // else it is what cannot be granted on
		return r.Repaired, err
	}
	return r.Repaired, nil
}

// fact is a row of ShapeSQL.
type fact struct{ object, definition, make, mend string }

// facts reads them in the order in which they can be made, as far as that can be told.
func facts(ctx context.Context, tx *sql.Tx) ([]fact, error) {
	settings, query, _ := strings.Cut(ShapeSQL, "\n\n")
	if _, err := tx.ExecContext(ctx, settings); err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []fact
	for rows.Next() {
		var f fact
		var made, mend sql.NullString
		if err := rows.Scan(&f.object, &f.definition, &made, &mend); err != nil {
			return nil, err
		}
		f.make, f.mend = made.String, mend.String
		all = append(all, f)
	}
	order := []string{"table", "sequence", "function", "column", "constraint"}
	rank := func(f fact) int {
		kind, _, _ := strings.Cut(f.object, " ")
		if at := slices.Index(order, kind); at >= 0 {
			return at
		}
		return len(order)
	}
	slices.SortStableFunc(all, func(a, b fact) int { return rank(a) - rank(b) })
	return all, rows.Err()
}

// pristine migrates a database of its own beside the one at address, and reads it.
func pristine(ctx context.Context, pool *sql.DB, address string, role Role) (all []fact, err error) {
	name := "ocsp_repair_" + strings.ToLower(rand.Text()[:12])
	if _, err := pool.ExecContext(ctx, "create database "+name+" template template0"); err != nil {
		return nil, err
	}
	defer func() {
		_, gone := pool.ExecContext(context.WithoutCancel(ctx), "drop database "+name+" with (force)")
		err = errors.Join(err, gone)
	}()
	there := address + " dbname='" + name + "'"
	if strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://") {
		u, err := url.Parse(address)
		if err != nil {
			return nil, errors.New("the database address is no URL") // url.Parse would quote the password in it
		}
		u.Path = "/" + name
		there = u.String()
	}
	if err := migrateUp(ctx, there, role); err != nil {
		return nil, err
	}
	own, err := open(ctx, there)
	if err != nil {
		return nil, err
	}
	defer own.Close()
	tx, err := own.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	return facts(ctx, tx)
}

// repair is one run of Repair.
type repair struct {
	Repaired
	tx    *sql.Tx
	role  Role
	want  []fact
	tried map[string]int // how often an object was put back
}

// run goes on while something can be put back: one object may need another, and take
// others away.
func (r *repair) run(ctx context.Context) error {
	// A daemon that holds a table lets it go in seconds; functions may name what comes later.
	if _, err := r.tx.ExecContext(ctx, "set local lock_timeout = '30s'; set local check_function_bodies = off"); err != nil {
		return err
	}
	for {
		live, err := facts(ctx, r.tx)
		if err != nil {
			return err
		}
		have := map[string]string{}
		for _, f := range live {
			have[f.object] = f.definition
		}
		r.Refused = nil
		progress := false
		for _, f := range r.want {
			definition, there := have[f.object]
			_, tableThere := have["table "+tableOf(f.object)]
			if there && same(definition, f.definition) || !tableThere && tableOf(f.object) != "" {
				continue // a table's parts come after it
			}
			err := r.put(ctx, f, there)
			if err != nil {
				r.Refused = append(r.Refused, fmt.Sprintf("%s: %v", f.object, err))
				continue
			}
			progress = true
			if r.tried[f.object]++; r.tried[f.object] == 1 {
				r.Done = append(r.Done, f.object)
			}
		}
		if !progress {
			return nil
		}
	}
}

// put makes one object what it must be.
func (r *repair) put(ctx context.Context, f fact, there bool) error {
	table := tableOf(f.object)
	isTable, isColumn := strings.HasPrefix(f.object, "table "), strings.HasPrefix(f.object, "column ")
	switch {
	case r.tried[f.object] > 2:
		return errors.New("it was put back, and is otherwise again: what does that? (an event trigger)")
	case !there && r.role == Master && (isTable || isColumn):
		return errors.New("it is gone with what stood in it: restore the master from its backup (docs/operations.md)")
	}
	statement := f.make
	if there {
		statement = f.mend
	}
	if statement == "" {
		return errors.New("it cannot be changed without losing what stands in it: mend it by hand")
	}
	// What stood in a column of the copy is gone with it: the rows are no longer the master's.
	rowsGone := !there && isColumn && !strings.HasPrefix(f.object, "column site_seq ")
	unfit, err := r.try(ctx, statement)
	switch {
	case err == nil && !(rowsGone && r.mayEmpty(table)):
		return nil
	case err != nil && !(unfit && r.mayEmpty(table)):
		if unfit {
			return fmt.Errorf("%w: take away or correct the rows that are wrong, then run it again", err)
		}
		return err
	}
	// Without its head a site is seeded anew, at once.
	if _, fail := r.try(ctx, "truncate public.feed_head, "+table); fail != nil {
		return errors.Join(err, fail)
	}
	if !slices.Contains(r.Emptied, table) {
		r.Emptied = append(r.Emptied, table)
	}
	if err != nil {
		_, err = r.try(ctx, statement)
	}
	return err
}

// mayEmpty says whether the rows of a table come again by themselves.
func (r *repair) mayEmpty(table string) bool {
	return r.role == Site && slices.Contains(refetched, table)
}

// try runs statements, or leaves everything as it was. unfit: the rows do not fit.
func (r *repair) try(ctx context.Context, statement string) (unfit bool, err error) {
	if _, err := r.tx.ExecContext(ctx, "savepoint try"); err != nil {
		return false, err
	}
	if _, err = r.tx.ExecContext(ctx, statement); err == nil {
		_, err = r.tx.ExecContext(ctx, "release savepoint try")
		return false, err
	}
	_, undo := r.tx.ExecContext(ctx, "rollback to savepoint try")
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		unfit = strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "23") // data exception, integrity constraint violation
		err = errors.New(strings.TrimSuffix(pg.Message+": "+pg.Detail, ": "))        // the detail names the row
	}
	return unfit, errors.Join(err, undo)
}
