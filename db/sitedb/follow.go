package sitedb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// readRetries is how often a read is tried in all if PostgreSQL ends it for a deadlock (40P01)
	// or a serialization failure (40001).
	readRetries = 3
	// stallAfter ends a read that makes no progress: the database hangs, and the
	// next attempt takes a new connection.
	stallAfter = 30 * time.Second
	// listenCheck is how often a quiet listening connection is checked.
	listenCheck = 30 * time.Second
)

// beginRead waits only a few seconds for a seed, which locks the tables while it writes them: the
// copy in memory still answers in the meantime. Neither statement takes a snapshot. All run in one
// round trip; that a refusal also ends the connection does no harm then.
var beginRead = "begin isolation level repeatable read read only; set local lock_timeout = '10s'; " + tables.LockReaders

// ReadTx is one snapshot of a site's database. It is valid inside the function that DB.ReadTx
// calls, and for one goroutine.
type ReadTx struct {
	Head db.Head
	// LastSeq is the highest site_seq of all rows in the snapshot or trimmed from it: a follower
	// that has read it is up to date.
	LastSeq uint64
	// TrimmedTo is the site_seq up to which tombstones are deleted: a follower behind it cannot
	// know what was deleted.
	TrimmedTo uint64
	// Started is when the postmaster started: another time means that it was restarted, perhaps
	// after a crash.
	Started time.Time
	// Skew is this site's clock minus the master's, SkewAge is the age of that round trip with the
	// master. HasSkew is false while nothing was measured.
	Skew    time.Duration
	SkewAge time.Duration
	HasSkew bool
	// AccessDenied is why the master no longer lets this site in; empty: it does.
	AccessDenied string
	// SynchronousCommit is the subscription's setting, empty without a subscription.
	SynchronousCommit string
	// Parallel says that the subscription applies large transactions in parallel
	// (PostgreSQL 16 and later), where rows arrive before the head.
	Parallel bool
	// SignedNotes are the newest checkpoints of the feed that are here, SignedKeys the key sets,
	// the highest number first, all as signed notes: those that ocspsyncd has fetched, and those
	// that the master publishes.
	SignedNotes, SignedKeys [][]byte

	tx    pgx.Tx // nil: a Delta, which is finished
	alive func() // reports progress to the watchdog

	// The result of a Delta: the changes after a site_seq, limited in number, and what was
	// remembered since.
	after      uint64
	recent     []CertificateChange
	more       bool
	remembered []Remembered
}

// ReadTx opens one REPEATABLE READ snapshot of a site's database and calls f with it, again from
// the start if PostgreSQL ended the transaction. It returns ErrNoHead if the site was never
// seeded. Everything in a ReadTx, head and rows, belongs to the same moment.
func (s *DB) ReadTx(ctx context.Context, f func(context.Context, *ReadTx) error) error {
	return again(ctx, func() error { return s.readTx(ctx, f) })
}

// again tries a read again that PostgreSQL may end.
func again(ctx context.Context, read func() error) error {
	for attempt := 1; ; attempt++ {
		err := read()
		if err == nil {
			return nil
		}
		if attempt < readRetries && pg.IsCode(err, "40P01", "40001") && ctx.Err() == nil {
			continue
		}
		return fmt.Errorf("looking at the local database: %w", pg.Plain(err))
	}
}

var errStalled = fmt.Errorf("no progress for %s", stallAfter)

func (s *DB) readTx(ctx context.Context, f func(context.Context, *ReadTx) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stallAfter, func() { cancel(errStalled) })
	defer watchdog.Stop()
	l := &ReadTx{alive: func() { watchdog.Reset(stallAfter) }}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: beginRead}, func(tx pgx.Tx) error {
		l.tx = tx
		if err := l.open(ctx); err != nil {
			return err
		}
		return f(ctx, l)
	})
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// Delta is a ReadTx of one round trip: it also reads what changed after the given site_seq, unless
// more than limit numbers were given out since, and what was remembered after a Seq. Changes and
// Remembered return these, for those numbers alone; a Delta has nothing else than its fields.
func (s *DB) Delta(ctx context.Context, after, remembered uint64, limit int) (*ReadTx, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stallAfter, errStalled)
	defer cancel()
	var l *ReadTx
	queue := func(read *pg.Batch) error {
		l = &ReadTx{alive: func() {}, after: after}
		for _, part := range strings.Split(beginRead, "; ") {
			read.Exec(part)
		}
		l.queue(read)
		read.Rows(func(rows pgx.Rows) (err error) {
			l.more, err = eachChange(rows, limit, func(c CertificateChange) error {
				c.Content = bytes.Clone(c.Content)
				l.recent = append(l.recent, c)
				return nil
			})
			return err
		}, "select * from ("+selectRecent+") c where (select max(site_seq) from certificate) <= $1 + $2 or (select max(site_seq) from certificate) is null", int64(after), limit)
		read.Rows(func(rows pgx.Rows) (err error) {
			l.remembered, err = pgx.CollectRows(rows, scanRemembered)
			l.more = l.more || len(l.remembered) > limit
			return err
		}, selectRemembered+" order by seq limit $2 + 1", int64(remembered), limit)
		read.Exec("commit")
		return nil
	}
	if err := again(ctx, func() error { return s.pool.ReadBatch(ctx, queue) }); err != nil {
		return nil, err
	}
	l.more = l.more || l.LastSeq > after+uint64(limit) // then nothing was read
	return l, nil
}

func (l *ReadTx) open(ctx context.Context) error {
	var read pg.Batch
	l.queue(&read)
	if err := read.Send(ctx, l.tx); err != nil {
		return err
	}
	l.alive()
	return nil
}

// queue reads the fields.
func (l *ReadTx) queue(read *pg.Batch) {
	read.Row(func(row pgx.Row) (err error) {
		l.Head, err = tables.ScanHead(row)
		return err
	}, tables.SelectHead+"feed_head")
	read.Row(func(row pgx.Row) error {
		var skewMS *int64
		var skewAge *float64
		var commit *string
		err := row.Scan(&l.TrimmedTo, &l.LastSeq, &skewMS, &skewAge, &l.Started, &l.AccessDenied, &commit, &l.Parallel)
		if err != nil {
			return fmt.Errorf("reading the site's state: %w", err)
		}
		if skewMS != nil && skewAge != nil {
			l.HasSkew = true
			l.Skew = time.Duration(*skewMS) * time.Millisecond
			l.SkewAge = time.Duration(*skewAge * float64(time.Second))
		}
		if commit != nil {
			l.SynchronousCommit = *commit
		}
		return nil
	}, `
		select s.trimmed_to,
		       greatest(s.trimmed_to, (select max(site_seq) from certificate), (select max(site_seq) from site_tombstone)),
		       s.skew_ms, extract(epoch from clock_timestamp() - s.skew_at)::float8, pg_postmaster_start_time(),
		       coalesce(s.access_denied, ''), sub.subsynccommit, coalesce(sub.substream::text = 'p', false)
		from site_state s
		left join pg_subscription sub on sub.subname = $1
		  and sub.subdbid = (select oid from pg_database where datname = current_database())`, db.SubscriptionName)
	read.Row(func(row pgx.Row) error {
		if err := row.Scan(&l.SignedNotes, &l.SignedKeys); err != nil {
			return fmt.Errorf("reading the feed's checkpoint: %w", err)
		}
		return nil
	}, `select array(select note from ocsp_feed.feed_checkpoint where note is not null union all select note from ocsp_internal.feed_checkpoint where note is not null),
		array(select note from (select number, note from ocsp_feed.feed_keys union select number, note from ocsp_internal.feed_keys) k
		  where note is not null order by number desc nulls last, note limit $1)`, tables.MostKeySets)
}

// Issuers lists all issuers by number.
func (l *ReadTx) Issuers(ctx context.Context) ([]db.Issuer, error) {
	l.alive()
	return tables.ReadIssuers(ctx, l.tx)
}

// Certificates calls each with all rows of certificate, in no order: the number of the row's last
// change and its canonical bytes, valid during the call.
func (l *ReadTx) Certificates(ctx context.Context, each func(seq uint64, canonical []byte) error) error {
	const all = "copy (select t.site_seq, " + db.CertificateCanonical + " from certificate t) to stdout (format binary)"
	rows := 0
	w := &pg.CopyReader{Row: func(fields [2][]byte) error {
		if rows++; rows%1024 == 0 {
			l.alive()
		}
		seq, err := pg.CopyInt8(fields[0])
		if err != nil {
			return err
		}
		return each(seq, fields[1])
	}}
	if _, err := l.tx.Conn().PgConn().CopyTo(ctx, w, all); err != nil {
		return fmt.Errorf("copying certificates: %w", err)
	}
	if err := w.End(); err != nil {
		return fmt.Errorf("copying certificates: %w", err)
	}
	return nil
}

// CertificateChange is the new state of a row of certificate, or its deletion.
type CertificateChange struct {
	Seq     uint64 // number of the change in this copy
	Deleted bool
	// Content is the row's canonical bytes; for a deleted row their first part, the key. It is
	// valid during the call.
	Content []byte
}

const selectRecent = `
	select t.site_seq, false, ` + db.CertificateCanonical + ` from certificate t where t.site_seq > $1
	union all
	select t.site_seq, true, int4send(t.issuer_id) || int2send(octet_length(t.serial)::int2) || t.serial from site_tombstone t where t.site_seq > $1
	order by 1 limit $2`

// Changes calls each with what changed after the given site_seq, in order; a key may come several
// times, and the last one counts. It stops after limit changes: more says that there are others.
func (l *ReadTx) Changes(ctx context.Context, after uint64, limit int, each func(CertificateChange) error) (more bool, err error) {
	if l.tx == nil {
		if after != l.after {
			return false, fmt.Errorf("reading changes: a Delta has those after %d, not %d", l.after, after)
		}
		for _, c := range l.recent {
			if err := each(c); err != nil {
				return false, err
			}
		}
		return l.more, nil
	}
	rows, err := l.tx.Query(ctx, selectRecent, int64(after), limit+1)
	if err != nil {
		return false, fmt.Errorf("reading changes: %w", err)
	}
	n := 0
	more, err = eachChange(rows, limit, func(c CertificateChange) error {
		if n++; n%1024 == 0 {
			l.alive()
		}
		return each(c)
	})
	if err != nil {
		return false, fmt.Errorf("reading changes: %w", err)
	}
	return more, nil
}

// eachChange reads rows of selectRecent, and says whether there are more than limit.
func eachChange(rows pgx.Rows, limit int, each func(CertificateChange) error) (more bool, err error) {
	defer rows.Close()
	for n := 0; rows.Next(); n++ {
		if n == limit {
			more = true
			break
		}
		var c CertificateChange
		if err := rows.Scan(&c.Seq, &c.Deleted, (*pgtype.DriverBytes)(&c.Content)); err != nil {
			return false, err
		}
		if err := each(c); err != nil {
			return false, err
		}
	}
	rows.Close()
	return more, rows.Err()
}

// ListenHead calls wake once it listens and then after each move of the head, until its own
// connection is lost or ctx ends. A notification may be lost with the connection: a caller that
// needs every change also reads by the clock.
func (s *DB) ListenHead(ctx context.Context, wake func()) error {
	if err := s.listenHead(ctx, wake); err != nil {
		return fmt.Errorf("listening to the local database: %w", err)
	}
	return nil
}

func (s *DB) listenHead(ctx context.Context, wake func()) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // it may be lost already
	}()
	if _, err := conn.Exec(ctx, "listen ocsp_head"); err != nil {
		return err
	}
	for {
		wake()
		if err := listenOnce(ctx, conn); err != nil {
			return err
		}
	}
}

// listenOnce returns at a notification. It checks a quiet connection, since a broken one gives no
// sign.
func listenOnce(ctx context.Context, conn *pgx.Conn) error {
	for {
		wait, cancel := context.WithTimeout(ctx, listenCheck)
		_, err := conn.WaitForNotification(wait)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		ping, cancel := context.WithTimeout(ctx, pg.ConnectTimeout)
		err = conn.Ping(ping)
		cancel()
		if err != nil {
			return err
		}
	}
}

// Corrections calls each with all corrections of the snapshot, by certificate and time.
func (l *ReadTx) Corrections(ctx context.Context, each func(db.Correction) error) error {
	l.alive()
	return tables.ReadCorrections(ctx, l.tx, each)
}

// ClosedPins counts the closed TLS keys of the snapshot.
func (l *ReadTx) ClosedPins(ctx context.Context) (db.Tally, error) {
	l.alive()
	var t db.Tally
	err := tables.ReadClosedPins(ctx, l.tx, func(pin [32]byte) { t.Add(pin[:]) })
	return t, err
}

// ResponderCertificates lists all delegated certificates by issuer and serial.
func (l *ReadTx) ResponderCertificates(ctx context.Context) ([]db.ResponderCertificate, error) {
	l.alive()
	return tables.ReadResponderCertificates(ctx, l.tx)
}
