package ctl

import (
	"context"
	"errors"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/migrations"
)

// Verb is a verb that works on what was opened for it.
type Verb[R any] interface {
	Doc() cli.Doc
	Run(ctx context.Context, r R) error
}

// Checker is a verb that checks its flags before anything is opened.
type Checker interface{ Check() error }

// At opens something for a verb, and closes it afterwards.
func At[R any](v Verb[R], open func(ctx context.Context, p *cli.Program, c *settings.Settings) (R, func() error, error)) cli.Verb {
	return at[R]{v, open}
}

type at[R any] struct {
	verb Verb[R]
	open func(context.Context, *cli.Program, *settings.Settings) (R, func() error, error)
}

func (a at[R]) Doc() cli.Doc { return a.verb.Doc() }

func (a at[R]) Unwrap() any { return a.verb }

func (a at[R]) Run(ctx context.Context, p *cli.Program) error {
	if c, ok := a.verb.(Checker); ok {
		if err := c.Check(); err != nil {
			return err
		}
	}
	cfg, err := Load(p)
	if err != nil {
		return err
	}
	r, done, err := a.open(ctx, p, cfg)
	if err != nil {
		return err
	}
	return errors.Join(a.verb.Run(ctx, r), done())
}

// closing returns a function that closes a database, without an error.
func closing(store database) func() error {
	return func() error {
		store.Close()
		return nil
	}
}

// Master is the run of a verb at the master's database.
type Master struct {
	*cli.Program
	Store  *masterdb.DB
	Config *settings.Settings
}

// AtMaster opens the master's database for a verb.
func AtMaster(v Verb[*Master]) cli.Verb {
	return At(v, func(ctx context.Context, p *cli.Program, c *settings.Settings) (*Master, func() error, error) {
		store, err := OpenMaster(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		return &Master{p, store, c}, closing(store), nil
	})
}

// Either is the run of a verb at the database of the configuration, a master's or a
// site's.
type Either struct {
	*cli.Program
	Store  *tables.DB
	Config *settings.Settings
}

// AtEither opens the database of the configuration for a verb.
func AtEither(v Verb[*Either]) cli.Verb {
	return At(v, func(ctx context.Context, p *cli.Program, c *settings.Settings) (*Either, func() error, error) {
		store, err := Open(ctx, c, migrations.Role(c.Role), tables.Open)
		if err != nil {
			return nil, nil, err
		}
		return &Either{p, store, c}, closing(store), nil
	})
}
