package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// Rights returns all that anybody but an owner may do in a database of the role, one
// right a line as the SQL function ocsp_internal.rights() reports it: kind (database,
// schema, table, sequence or function), object, privilege and grantee. Sorted.
// The files ROLE/rights.txt are the only place where a right is given.
func Rights(role Role) []string {
	text, err := files.ReadFile(string(role) + "/rights.txt")
	if err != nil {
		panic(err) // it is embedded
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		right, roles, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found || strings.HasPrefix(line, "#") {
			continue
		}
		for grantee := range strings.FieldsSeq(roles) {
			all = append(all, right+" "+grantee)
		}
	}
	slices.Sort(all)
	return all
}

// Drift compares the rights of a live database with Rights: what somebody may do
// beyond them, and what is missing.
func Drift(role Role, live []string) (extra, missing []string) {
	want := Rights(role)
	for _, right := range live {
		if _, found := slices.BinarySearch(want, right); !found {
			extra = append(extra, right)
		}
	}
	for _, right := range want {
		if !slices.Contains(live, right) {
			missing = append(missing, right)
		}
	}
	return extra, missing
}

// Ours says whether a right is PUBLIC's or a role of the migrations', and so for
// SetRights to revoke.
func Ours(right string) bool {
	grantee := strings.Fields(right)[3]
	return grantee == "PUBLIC" || strings.HasPrefix(grantee, "ocsp_")
}

// SetRights grants what is missing and revokes what PUBLIC and our roles have beyond.
// A right that a superuser gave to a role that is not ours stays; doctor shows it.
func SetRights(ctx context.Context, url string, role Role) error {
	pool, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("setting the rights: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	live, err := liveRights(ctx, tx)
	if err != nil {
		return fmt.Errorf("reading the rights: %w", err)
	}
	extra, missing := Drift(role, live)
	for _, change := range []struct {
		rights []string
		format string
	}{{extra, "revoke %s on %s from %s"}, {missing, "grant %s on %s to %s"}} {
		for _, right := range change.rights {
			if !Ours(right) {
				continue
			}
			part := strings.Fields(right)
			object := part[0] + " " + part[1]
			if part[0] == "database" {
				var name string
				if err := tx.QueryRowContext(ctx, "select quote_ident(current_database())").Scan(&name); err != nil {
					return fmt.Errorf("setting the rights: %w", err)
				}
				object = "database " + name
			}
			if _, err := tx.ExecContext(ctx, fmt.Sprintf(change.format, part[2], object, part[3])); err != nil {
				return fmt.Errorf("setting the right %q: %w", right, err)
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("setting the rights: %w", err)
	}
	return nil
}

// DatabaseGrants returns the statements that give a database of the role its own rights
// (connect, temporary), which neither a clone nor a restored dump brings along.
func DatabaseGrants(database string, role Role) []string {
	name := `"` + strings.ReplaceAll(database, `"`, `""`) + `"`
	statements := []string{"revoke all on database " + name + " from public"}
	for _, right := range Rights(role) {
		if part := strings.Fields(right); part[0] == "database" {
			statements = append(statements, fmt.Sprintf("grant %s on database %s to %s", part[2], name, part[3]))
		}
	}
	return statements
}

func liveRights(ctx context.Context, tx *sql.Tx) ([]string, error) {
	rows, err := tx.QueryContext(ctx, "select * from ocsp_internal.rights()")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var live []string
	for rows.Next() {
		var right string
		if err := rows.Scan(&right); err != nil {
			return nil, err
		}
		live = append(live, right)
	}
	return live, rows.Err()
}
