package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
)

//go:embed common/* master/* site/*
var files embed.FS

// Role says what a database is for.
type Role string

// The roles of a database.
const (
	Master Role = "master"
	Site   Role = "site"
)

// Folders returns the parts of a role's schema, in the order of their use. Each
// has its own version table, schema_FOLDER.
func (r Role) Folders() []string { return []string{"common", string(r)} }

// Baseline is the first version of each part. A database with an older one was made before
// v0.1.0, whose migrations start anew.
const Baseline = 100

// errOld refuses such a database; tables.DB.CheckSchema says the same.
func errOld(folder string, version uint) error {
	return fmt.Errorf("schema %s has version %d, made before v0.1.0, and is not brought up to date: write the certificates out with the program that made it "+
		"(ocspctl cert export), make a new database, read them in (ocspctl cert import); docs/operations.md, A database from before v0.1.0", folder, version)
}

// Version is how far one part of the schema is.
type Version struct {
	Folder  string
	Current uint // 0: nothing applied yet
	Latest  uint // the newest this binary knows
	Dirty   bool // a migration broke off half way
}

// Up brings the database at url to the newest schema of the role, and the rights in it
// to those of its rights.txt, also where the schema is there already. The login
// must be a superuser.
func Up(ctx context.Context, url string, role Role) error {
	if err := migrateUp(ctx, url, role); err != nil {
		return err
	}
	return SetRights(ctx, url, role)
}

func migrateUp(ctx context.Context, url string, role Role) error {
	return each(ctx, url, role, func(folder string, m *migrate.Migrate, v Version) error {
		if v.Dirty {
			return fmt.Errorf("schema %s is half way through version %d: repair it by hand, then run ocspctl db force %s VERSION", folder, v.Current, folder)
		}
		if v.Current > v.Latest {
			return fmt.Errorf("schema %s has version %d, newer than this program's %d: upgrade the program", folder, v.Current, v.Latest)
		}
		if err := m.Up(); err != nil && !errors.Is(err, migrate.ErrNoChange) {
			return fmt.Errorf("migrating schema %s: %w", folder, err)
		}
		return nil
	})
}

// Versions tells how far the schema of the role is, part by part.
func Versions(ctx context.Context, url string, role Role) ([]Version, error) {
	var out []Version
	err := each(ctx, url, role, func(_ string, _ *migrate.Migrate, v Version) error {
		out = append(out, v)
		return nil
	})
	return out, err
}

// Force says that a part of the schema is at a version, and not dirty: the last
// step after a broken migration was repaired by hand. It changes nothing else.
func Force(ctx context.Context, url, folder string, version uint) error {
	return one(ctx, url, folder, func(_ string, m *migrate.Migrate, v Version) error {
		if version > v.Latest {
			return fmt.Errorf("schema %s has no version %d: the newest known is %d", folder, version, v.Latest)
		}
		if err := m.Force(int(version)); err != nil {
			return fmt.Errorf("setting the version of schema %s: %w", folder, err)
		}
		return nil
	})
}

// Latest returns the newest version of a part that this binary holds.
func Latest(folder string) (uint, error) {
	source, err := iofs.New(files, folder)
	if err != nil {
		return 0, fmt.Errorf("reading migrations %s: %w", folder, err)
	}
	defer source.Close()
	last, err := source.First()
	for err == nil {
		var next uint
		if next, err = source.Next(last); err == nil {
			last = next
		}
	}
	return last, nil
}

// each opens the database once per part, since a part has its own version table.
func each(ctx context.Context, url string, role Role, do func(string, *migrate.Migrate, Version) error) error {
	if role != Master && role != Site {
		return fmt.Errorf("database role %q: want master or site", role)
	}
	for _, folder := range role.Folders() {
		if err := one(ctx, url, folder, do); err != nil {
			return err
		}
	}
	return nil
}

func one(ctx context.Context, url, folder string, do func(string, *migrate.Migrate, Version) error) error {
	pool, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	source, err := iofs.New(files, folder)
	if err != nil {
		return fmt.Errorf("reading migrations %s: %w", folder, err)
	}
	driver, err := migratepgx.WithInstance(pool, &migratepgx.Config{MigrationsTable: "schema_" + folder})
	if err != nil {
		return fmt.Errorf("preparing schema %s: %w", folder, err)
	}
	m, err := migrate.NewWithInstance("iofs", source, "pgx5", driver)
	if err != nil {
		return fmt.Errorf("preparing schema %s: %w", folder, errors.Join(err, driver.Close()))
	}
	defer m.Close()
	v := Version{Folder: folder}
	if v.Latest, err = Latest(folder); err != nil {
		return err
	}
	v.Current, v.Dirty, err = m.Version()
	if err != nil && !errors.Is(err, migrate.ErrNilVersion) {
		return fmt.Errorf("reading the version of schema %s: %w", folder, err)
	}
	if err == nil && v.Current < Baseline {
		return errOld(folder, v.Current)
	}
	return do(folder, m, v)
}

// sessionSettings is what the migrations rely on, whatever a DBA has set for the database
// or the login, as db.sessionSettings is for all else.
const sessionSettings = `set statement_timeout = 0;
set session characteristics as transaction isolation level read committed, read write;
set quote_all_identifiers = off;
set search_path = public;
set standard_conforming_strings = on;
set lock_timeout = 0;
set idle_session_timeout = 0;
set idle_in_transaction_session_timeout = 0`

// open opens one connection to the database at url.
func open(ctx context.Context, url string) (*sql.DB, error) {
	pool, err := sql.Open("pgx/v5", url)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	pool.SetMaxOpenConns(1) // which has the settings
	if _, err := pool.ExecContext(ctx, sessionSettings); err != nil {
		return nil, errors.Join(fmt.Errorf("reaching the database: %w", err), pool.Close())
	}
	return pool, nil
}
