package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	slotWait    = 2 * time.Minute // a slot comes when every transaction that was writing has ended
	copySilence = time.Minute     // without a single row
)

// GiveUp drops the slot of a seed that came to nothing, for the reason that it returns.
func (u *DB) GiveUp(ctx context.Context, slot string, why error) error {
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), pg.ConnectTimeout)
	defer cancel()
	if err := u.DropSlot(tidy, slot); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// Export is the master's side of a copy: a connection that sees the rows as they
// are where the slot's changes begin.
type Export struct {
	conn    *pgconn.PgConn
	Columns map[string]string // table -> published columns, in their order
}

// Close ends it.
func (e *Export) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), pg.ConnectTimeout)
	defer cancel()
	_ = e.conn.Close(ctx) // read-only; nothing is lost
}

// Export makes a slot, and sees the rows as they are where its changes begin.
func (u *DB) Export(ctx context.Context, slot string) (*Export, error) {
	columns, err := u.Published(ctx)
	if err != nil {
		return nil, err
	}
	e := &Export{Columns: map[string]string{}}
	for _, c := range columns {
		e.Columns[c.Table] = strings.TrimPrefix(e.Columns[c.Table]+", "+pgx.Identifier{c.Name}.Sanitize(), ", ")
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
			e.Close()
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking over the slot's snapshot: %w", err), u.DropSlot(context.WithoutCancel(ctx), slot))
	}
	return e, nil
}

// Copy pipes one table from the master's COPY into ours, as binary rows. report is told
// how many came; it may be nil.
func (e *Export) Copy(ctx context.Context, theirs string, tx pgx.Tx, ours string, report func(rows int64)) error {
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
