package tables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Range is what schema versions this program can work with, per part
// (migrations folder): the version tables are schema_common, schema_master, schema_site.
type Range struct{ Min, Max int64 }

// The schema versions that this program can use. A range of several versions needs a list of its
// own for each (migrations.Shape).
var schemaRanges = map[string]Range{"common": {101, 101}, "master": {110, 110}, "site": {101, 101}}

// baseline is the first version of each part since v0.1.0 (migrations.Baseline).
const baseline = 100

// CheckSchema refuses a database whose schema is missing, half migrated, too old
// or too new for this program; the error names the fix. role is master or site.
func (s *DB) CheckSchema(ctx context.Context, role string) error {
	for _, part := range []string{"common", role} {
		want := schemaRanges[part]
		var version int64
		var dirty bool
		err := s.pool.QueryRow(ctx, "select version, dirty from "+pgx.Identifier{"schema_" + part}.Sanitize()).Scan(&version, &dirty)
		switch {
		case errors.Is(err, pgx.ErrNoRows) || pg.IsCode(err, "42P01"):
			return fmt.Errorf("the database has no schema %s: run ocspctl db migrate --role %s", part, role)
		case err != nil:
			return fmt.Errorf("reading the version of schema %s: %w", part, pg.Plain(err))
		case dirty:
			return fmt.Errorf("schema %s broke off in version %d: repair it, then run ocspctl db force %s VERSION", part, version, part)
		case version < baseline: // as package migrations says it
			return fmt.Errorf("schema %s has version %d, made before v0.1.0, and is not brought up to date: write the certificates out with the program that made it "+
				"(ocspctl cert export), make a new database, read them in (ocspctl cert import); docs/operations.md, A database from before v0.1.0", part, version)
		case version < want.Min:
			return fmt.Errorf("schema %s has version %d, this program needs %d: run ocspctl db migrate --role %s", part, version, want.Min, role)
		case version > want.Max:
			return fmt.Errorf("schema %s has version %d, this program knows up to %d: upgrade the program", part, version, want.Max)
		}
	}
	return nil
}

// schemaRetry is the pause between two attempts to reach a database that is away.
const schemaRetry = time.Second

// AwaitSchema is CheckSchema for a daemon's start: while the database cannot be reached it reports
// why and tries again, until ctx ends; a database that answers is checked.
func (s *DB) AwaitSchema(ctx context.Context, role string, log *slog.Logger, tell func(why string)) error {
	for waited := false; ; waited = true {
		err := s.CheckSchema(ctx, role)
		if !Away(err) {
			return err
		}
		if !waited {
			log.WarnContext(ctx, "database unreachable at start, trying again", slog.String("error", err.Error()))
		}
		tell("waiting for the database: " + err.Error())
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the database: %w: %w", ctx.Err(), err)
		case <-time.After(schemaRetry):
		}
	}
}

// Away says that err comes from a database that cannot be reached, and that may be reached later:
// a wrong password, name or group does not change by waiting.
func Away(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) && !pg.IsCode(err, "28P01", "28000", "3D000", "42501")
}
