package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// conns is what a Store asks of its connections: a pool, or one transaction (Try).
type conns interface {
	querier
	sender
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Begin(ctx context.Context) (pgx.Tx, error)
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
	Acquire(ctx context.Context) (*pgxpool.Conn, error)
	Config() *pgxpool.Config
	Ping(ctx context.Context) error
	Close()
}

// Try calls f, which changes rows at the master through the Store that it is given, in
// one transaction; with apply it is committed, without it is rolled back, once the rules
// that are looked at when it commits (the hourly limit) were looked at. So a plan is
// what will be done, judged by those who will judge it: what Try lets pass goes through
// with apply, and what f returns is what would be there. Numbers that it was given
// (requests) and times are those of now: with apply they are others.
//
// f must only write rows, at most 1,000 of them, since every other writer waits for the
// one head. What reaches beyond the transaction (slots, sessions, the DNS, files, a CA's
// signature) is real whatever becomes of it: the SQL functions that do such refuse to be
// tried, and have a twin that only says what they would do.
func (s *Store) Try(ctx context.Context, apply bool, f func(*Store) error) error {
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		if !apply {
			if _, err := tx.Exec(ctx, "set local ocsp.trying = 'on'"); err != nil {
				return err
			}
		}
		if err := f(&Store{pool: within{tx}}); err != nil {
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
	if errors.Is(err, errTried) {
		return nil
	}
	return plain(err)
}

var errTried = errors.New("tried, and rolled back")

// within has the Store of a Try work inside its transaction. What needs a connection of
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
