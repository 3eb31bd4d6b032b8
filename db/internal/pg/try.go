package pg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ocspfleet/db"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// conns is what a Pool asks of its connections: a pool, or one transaction (Try).
type conns interface {
	Querier
	sender
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Begin(ctx context.Context) (pgx.Tx, error)
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
	Acquire(ctx context.Context) (*pgxpool.Conn, error)
	Config() *pgxpool.Config
	Ping(ctx context.Context) error
	Close()
}

// Try calls f with a pool that is one transaction; with apply it is committed.
func (s *Pool) Try(ctx context.Context, apply bool, f func(*Pool) error) error {
	holders, done := make(chan string, 1), make(chan struct{})
	go func() {
		select {
		case <-done:
		case <-time.After(lockWait - time.Second): // while we still wait, the waits can be followed
			holders <- s.holders(ctx)
		}
	}()
	err := pgx.BeginTxFunc(ctx, s, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		settings := fmt.Sprintf("set local lock_timeout = %d", lockWait.Milliseconds())
		if !apply {
			settings += "; set local ocsp.trying = 'on'"
		}
		if _, err := tx.Exec(ctx, settings); err != nil {
			return err
		}
		if err := f(&Pool{conns: within{tx}}); err != nil {
			return err
		}
		if apply {
			return nil
		}
		// One round trip: the head is held for as short as can be.
		if _, err := tx.Exec(ctx, "set constraints all immediate; rollback"); err != nil {
			return err
		}
		return errTried
	})
	close(done)
	switch {
	case errors.Is(err, errTried):
		return nil
	case IsCode(err, "55P03"):
		held := "somebody else"
		select {
		case who := <-holders:
			held = cmp.Or(who, held)
		default:
		}
		return &db.Refusal{
			Message: fmt.Sprintf("nothing was done: what it needs was held for %s by %s", lockWait, held),
			Hint:    "Run it again: ocspsyncd at the master ends who holds it for long, and its /readyz names whom it may not.", Cause: err,
		}
	}
	return Plain(err)
}

// lockWait is how long a person's act waits for the head or for a row.
const lockWait = 5 * time.Second

// holders names whom others wait for now; empty: nobody, or it cannot be seen.
func (s *Pool) holders(ctx context.Context) string {
	rows, err := s.Query(ctx, "select * from watch('{}', 0, interval '1 s')")
	if err != nil {
		return ""
	}
	blockers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[db.Blocker])
	if err != nil {
		return ""
	}
	var all []string
	for _, b := range blockers {
		if b.Waits {
			all = append(all, b.String())
		}
	}
	return strings.Join(all, "; ")
}

var errTried = errors.New("tried, and rolled back")

// within has the Pool of a Try work inside its transaction. What needs a connection of
// its own is refused: it would not be rolled back.
type within struct{ pgx.Tx }

// BeginTx begins a part of the transaction. It sees what that sees: a snapshot of its
// own, which readers ask for, would not have the changes that are tried.
func (w within) BeginTx(ctx context.Context, _ pgx.TxOptions) (pgx.Tx, error) { return w.Begin(ctx) }

func (w within) Acquire(context.Context) (*pgxpool.Conn, error) {
	return nil, fmt.Errorf("a second connection inside a transaction: what it does could not be taken back")
}

func (w within) Config() *pgxpool.Config { return nil }

func (w within) Ping(ctx context.Context) error { return w.Conn().Ping(ctx) }

func (w within) Close() {}
