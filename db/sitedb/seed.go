package sitedb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Bounds of a seed. Nothing bounds the copy as a whole: a slow line may take
// hours, and the site answers from its old rows meanwhile.
const (
	slotWait    = 2 * time.Minute   // a slot comes when every transaction that was writing has ended
	copySilence = time.Minute       // without a single row
	swapBase    = time.Minute       // the site's tables are locked: 200,000 rows/s are usual,
	swapPerRow  = time.Minute / 1e6 // 16,000 rows/s still pass
)

// SeedProgress is called with the certificates copied so far, and how many there are.
type SeedProgress func(done, total int64)

// Seeded is what a seed found.
type Seeded struct {
	Head      db.Head
	Differing int64    // certificates that were not the same before
	Examples  []string // some of them
	SiteSeq   int64    // by the feed: the last number of site_seq, before anybody else could write
}

// Seed replaces the site's copy by the master's rows as they are at the moment a
// new slot is made, and subscribes to that slot, all in one local transaction:
// until it commits, readers see the old rows. It does not touch an old slot. The
// old subscription, if any, must be disabled, so that it cannot run ahead of the
// slot.
//
// What Adoption refuses, by the corrections that open believes, is ErrRevocationsLost.
func (s *DB) Seed(ctx context.Context, from *Upstream, slot string, open db.OpenCorrections, why string, progress SeedProgress) (Seeded, error) {
	source, err := from.export(ctx, slot)
	if err != nil {
		return Seeded{}, fmt.Errorf("seeding from the master: %w", pg.Plain(err))
	}
	defer source.close()
	var seeded Seeded
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		seed := &seed{tx: tx, source: source, progress: progress, open: open, why: why}
		if err := seed.stage(ctx); err != nil {
			return err
		}
		swap, cancel := context.WithTimeout(ctx, swapBase+time.Duration(seed.head.Certificates.Count)*swapPerRow)
		defer cancel()
		if err := seed.swap(swap, from, slot); err != nil {
			return err
		}
		seeded = seed.Seeded
		seeded.Head = seed.head
		return nil
	})
	if err != nil {
		return Seeded{}, from.giveUp(ctx, slot, fmt.Errorf("seeding from the master: %w", pg.Plain(err)))
	}
	return seeded, nil
}

// giveUp drops the slot of a seed that came to nothing, for the reason that it returns.
func (u *Upstream) giveUp(ctx context.Context, slot string, why error) error {
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), pg.ConnectTimeout)
	defer cancel()
	if err := u.DropSlot(tidy, slot); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// export is the master's side of a seed: a connection that sees the rows as they
// are where the slot's changes begin.
type export struct {
	conn    *pgconn.PgConn
	columns map[string]string // table -> published columns, in their order
}

func (e *export) close() {
	ctx, cancel := context.WithTimeout(context.Background(), pg.ConnectTimeout)
	defer cancel()
	_ = e.conn.Close(ctx) // read-only; nothing is lost
}

func (u *Upstream) export(ctx context.Context, slot string) (*export, error) {
	columns, err := u.published(ctx)
	if err != nil {
		return nil, err
	}
	e := &export{columns: map[string]string{}}
	for _, c := range columns {
		e.columns[c.Table] = strings.TrimPrefix(e.columns[c.Table]+", "+pgx.Identifier{c.Name}.Sanitize(), ", ")
	}
	ctx, cancel := context.WithTimeout(ctx, slotWait)
	defer cancel()
	walsender, err := u.replicationConn(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening a replication connection: %w", err)
	}
	// The exported snapshot lives as long as this connection is idle; whoever
	// took it over keeps it.
	defer walsender.Close(context.WithoutCancel(ctx))
	results, err := walsender.Exec(ctx, "CREATE_REPLICATION_SLOT "+pgx.Identifier{slot}.Sanitize()+" LOGICAL pgoutput (SNAPSHOT 'export')").ReadAll()
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (a transaction that is open at the master holds it up)", err)
		}
		return nil, fmt.Errorf("making slot %s: %w", slot, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 3 {
		return nil, fmt.Errorf("making slot %s: the master's answer has another form than ours", slot)
	}
	snapshot := string(results[0].Rows[0][2])
	if e.conn, err = pgconn.ConnectConfig(ctx, &u.conn.Copy().Config); err == nil {
		_, err = e.conn.Exec(ctx, "begin isolation level repeatable read read only; set transaction snapshot '"+
			strings.ReplaceAll(snapshot, "'", "''")+"'").ReadAll()
		if err != nil {
			e.close()
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking over the slot's snapshot: %w", err), u.DropSlot(context.WithoutCancel(ctx), slot))
	}
	return e, nil
}

// seed is the site's side: one transaction.
type seed struct {
	Seeded
	tx       pgx.Tx
	source   *export
	progress SeedProgress
	head     db.Head // the new copy's

	purgeBefore time.Time
	open        db.OpenCorrections
	why         string // why open is nil
}

// stage copies the master's rows into temporary tables and recounts them there;
// nobody waits for it.
func (s *seed) stage(ctx context.Context) error {
	for _, table := range replicated {
		sql := "create temp table seed_" + table + " (like public." + table + " including defaults) on commit drop"
		if table == "certificate" {
			sql += "; alter table seed_certificate drop column site_seq" // given when the row becomes visible
		}
		if _, err := s.tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("preparing the copy: %w", err)
		}
		if err := s.copy(ctx, table); err != nil {
			return fmt.Errorf("copying %s: %w", table, err)
		}
		if table == "feed_head" {
			var err error
			if s.head, err = tables.ReadHeadOf(ctx, s.tx, "seed_feed_head"); err != nil {
				if errors.Is(err, db.ErrNoHead) {
					return errors.New("the master has no head: run ocspctl db init there")
				}
				return err
			}
		}
	}
	if _, err := s.tx.Exec(ctx, "analyze seed_certificate"); err != nil {
		return fmt.Errorf("preparing the copy: %w", err)
	}
	return s.verify(ctx)
}

// verify refuses rows that are not what the master's own head says.
func (s *seed) verify(ctx context.Context) error {
	for _, t := range db.FeedTables {
		got, err := tables.Tally(ctx, s.tx, "seed_"+t.Name, t.Rows)
		if err != nil {
			return err
		}
		if want := *t.Tally(&s.head); got != want {
			return fmt.Errorf("the master's rows and its head disagree at position %d (%s: %d rows with digest %x, the head says %d with %x): run ocspctl db verify at the master",
				s.head.Position, t.Name, got.Count, got.Digest, want.Count, want.Digest)
		}
	}
	return nil
}

// swap puts the staged rows in the place of the old ones. Readers wait from the
// lock to the commit.
func (s *seed) swap(ctx context.Context, from *Upstream, slot string) error {
	if err := s.clear(ctx); err != nil {
		return err
	}
	for _, table := range replicated {
		columns := s.source.columns[table]
		if _, err := s.tx.Exec(ctx, fmt.Sprintf("insert into %s (%s) select %s from seed_%s", table, columns, columns, table)); err != nil {
			return fmt.Errorf("filling %s: %w", table, err)
		}
	}
	if _, err := s.tx.Exec(ctx, "select subscription_drop($1)", db.SubscriptionName); err != nil {
		return fmt.Errorf("dropping the old subscription: %w", err)
	}
	_, err := s.tx.Exec(ctx, "select subscription_create($1, $2, $3, $4, $5, $6, $7, $8)", append(from.address(db.SubscriptionName), slot)...)
	return err
}

// clear notes what is about to change, and empties the tables once the guard allows it.
// Readers wait from here to the commit.
func (s *seed) clear(ctx context.Context) error {
	if err := s.compare(ctx); err != nil {
		return err
	}
	// Always this order, feed_head first: readers lock alike.
	if _, err := s.tx.Exec(ctx, "set local lock_timeout = '30s'"); err != nil {
		return err
	}
	if _, err := s.tx.Exec(ctx, "lock table "+feedTableNames+" in access exclusive mode"); err != nil {
		return fmt.Errorf("locking the site's tables: %w", err)
	}
	if err := s.guard(ctx); err != nil {
		return err
	}
	if _, err := s.tx.Exec(ctx, "truncate "+feedTableNames); err != nil {
		return fmt.Errorf("emptying the site's tables: %w", err)
	}
	return nil
}

// compare notes what is about to change, as evidence; over an empty copy there
// is nothing to tell.
func (s *seed) compare(ctx context.Context) error {
	_, err := s.spare(ctx, func() error { return s.difference(ctx) })
	return err
}

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

// copy copies one table of the master into ours.
func (s *seed) copy(ctx context.Context, table string) error {
	var report func(int64)
	if table == "certificate" && s.progress != nil {
		total := s.head.Certificates.Count
		report = func(rows int64) { s.progress(min(rows, total), total) }
	}
	columns := " (" + s.source.columns[table] + ")"
	return s.source.pipe(ctx, table+columns, s.tx, "seed_"+table+columns, report)
}

// pipe pipes one table from the master's COPY into ours, as binary rows. report is told
// how many came; it may be nil.
func (e *export) pipe(ctx context.Context, theirs string, tx pgx.Tx, ours string, report func(rows int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	meter := &meter{to: w, report: report, silence: time.AfterFunc(copySilence, func() {
		cancel(fmt.Errorf("the master sent nothing for %v", copySilence))
	})}
	defer meter.silence.Stop()
	sent := make(chan error, 1)
	go func() {
		_, err := e.conn.CopyTo(ctx, meter, "copy "+theirs+" to stdout (format binary)")
		w.CloseWithError(err) // nil: end of file
		sent <- err
	}()
	_, err := tx.Conn().PgConn().CopyFrom(ctx, r, "copy "+ours+" from stdin (format binary)")
	r.CloseWithError(err)
	sendErr := <-sent
	if cause := context.Cause(ctx); cause != nil && (err != nil || sendErr != nil) {
		return cause
	}
	if sendErr != nil {
		return fmt.Errorf("reading from the master: %w", sendErr)
	}
	return err
}

// meter counts the rows that pass (PostgreSQL sends each in a message of its own,
// which is one Write) and notices when none do.
type meter struct {
	to      io.Writer
	silence *time.Timer
	rows    int64
	report  func(rows int64) // may be nil
}

func (m *meter) Write(p []byte) (int, error) {
	m.silence.Reset(copySilence)
	if m.rows++; m.report != nil {
		m.report(m.rows)
	}
	return m.to.Write(p)
}
