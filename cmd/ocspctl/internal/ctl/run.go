package ctl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db"
	"ocspfleet/db/auditchain"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/migrations"
)

// Load reads the configuration.
func Load(p *cli.Program) (*settings.Settings, error) {
	var c settings.Settings
	if err := boot.Load(p.ConfigPath, &c); err != nil {
		return nil, err
	}
	return &c, nil
}

// database is the master's, a site's, or the common part of both.
type database interface {
	Ping(ctx context.Context) error
	CheckSchema(ctx context.Context, role string) error
	Close()
}

// Open opens the database of the configuration, which must have the role, and refuses a schema
// that this program does not know. open is the role's.
func Open[T database](ctx context.Context, c *settings.Settings, role migrations.Role, open func(context.Context, tables.Config) (T, error)) (T, error) {
	var none T
	if err := c.WantRole(role); err != nil {
		return none, err
	}
	store, err := open(ctx, c.DatabaseSettings())
	if err != nil {
		return none, err
	}
	if err = store.Ping(ctx); err == nil {
		err = store.CheckSchema(ctx, string(role))
	}
	if err != nil {
		store.Close()
		return none, err
	}
	return store, nil
}

// OpenMaster opens the master's database.
func OpenMaster(ctx context.Context, c *settings.Settings) (*masterdb.DB, error) {
	return Open(ctx, c, migrations.Master, masterdb.Open)
}

// OpenSite opens the site's database of another configuration.
func OpenSite(ctx context.Context, path string) (*sitedb.DB, error) {
	c, err := Load(&cli.Program{ConfigPath: path})
	if err != nil {
		return nil, err
	}
	return Open(ctx, c, migrations.Site, sitedb.Open)
}

// Act returns the user and the reason for the audit.
func Act(c cli.Change) (db.Act, error) {
	user, err := cli.User()
	return db.Act{User: user, Why: c.Why}, err
}

// Try makes a change of the master's rows in one transaction, which is rolled back unless --apply
// is given: so the plan is the act itself. do says whether it changes something.
func (m *Master) Try(ctx context.Context, c cli.Change, do func(*masterdb.DB, db.Act) (changed bool, err error)) (cli.Outcome, error) {
	act, err := Act(c)
	if err != nil {
		return cli.Outcome{}, err
	}
	changed := false
	err = m.Store.Try(ctx, c.Apply, func(store *masterdb.DB) error {
		changed, err = do(store, act)
		return err
	})
	return c.Outcome(changed), err
}

// Issuer finds an issuer by the staff's name for it.
func (m *Master) Issuer(ctx context.Context, name string) (db.Issuer, error) {
	return IssuerNamed(ctx, m.Store, name)
}

// IssuerNamed finds an issuer by the staff's name for it.
func IssuerNamed(ctx context.Context, store *masterdb.DB, name string) (db.Issuer, error) {
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return db.Issuer{}, err
	}
	names := make([]string, len(issuers))
	for i, issuer := range issuers {
		if issuer.Name == name {
			return issuer, nil
		}
		names[i] = issuer.Name
	}
	if len(names) == 0 {
		return db.Issuer{}, fmt.Errorf("there is no issuer yet: ocspctl issuer add")
	}
	return db.Issuer{}, fmt.Errorf("there is no issuer %q: want one of %s", name, strings.Join(names, ", "))
}

// IssuersNamed returns the named issuers, each once, or all.
func IssuersNamed(ctx context.Context, store *masterdb.DB, names []string) ([]db.Issuer, error) {
	if len(names) == 0 {
		issuers, err := store.Issuers(ctx)
		if err == nil && len(issuers) == 0 {
			err = errors.New("there is no issuer yet: ocspctl issuer add")
		}
		return issuers, err
	}
	names = slices.Clone(names)
	slices.Sort(names)
	var issuers []db.Issuer
	for _, name := range slices.Compact(names) {
		issuer, err := IssuerNamed(ctx, store, name)
		if err != nil {
			return nil, err
		}
		issuers = append(issuers, issuer)
	}
	return issuers, nil
}

// Mark returns N:HASH of an entry of the audit, for audit verify --mark.
func Mark(m auditchain.Mark) string { return fmt.Sprintf("%d:%x", m.N, m.Hash) }
