package tables

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

var loginName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// LoginOptions are a login's properties besides its group's rights. A zero field means the login's
// present value in this group, or, for a new login, what is usual for the group.
type LoginOptions struct {
	Kind        db.LoginKind // at the master
	Connections int          // at most, at a time
}

// CreateLogin is CreateLoginWith without options.
func (s *DB) CreateLogin(ctx context.Context, name string, group db.Role, password string, act db.Act) error {
	_, err := s.CreateLoginWith(ctx, name, group, password, LoginOptions{}, act)
	return err
}

// CreateLoginWith creates the login name, or corrects an existing one: a member of this group and
// of no other of the project, with this password, no superuser. A replica also gets the right to
// replicate, which lets it read the whole cluster. The password leaves this process only as its
// SCRAM-SHA-256 verifier. The store's own login must be a superuser. At the master the audit
// records it, and a login that was closed with its site is refused. It returns the login's
// options.
func (s *DB) CreateLoginWith(ctx context.Context, name string, group db.Role, password string, options LoginOptions, act db.Act) (LoginOptions, error) {
	if !loginName.MatchString(name) || slices.Contains(db.Roles, db.Role(name)) {
		return options, fmt.Errorf("login name %q: want a-z, then a-z, 0-9 and _, at most 63 in all, and no group's name", name)
	}
	if !slices.Contains(db.Roles, group) {
		return options, fmt.Errorf("login %q: %q is no group role", name, group)
	}
	if options.Connections < 0 || options.Connections > db.MaxConnections {
		return options, fmt.Errorf("login %q: %d connections: want 1 to %d", name, options.Connections, db.MaxConnections)
	}
	verifier, err := scramVerifier(password)
	if err != nil {
		return options, fmt.Errorf("login %q: %w", name, err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := putLogin(ctx, tx, name, group, verifier, &options.Connections); err != nil {
			return err
		}
		var err error
		if options.Kind, err = setKind(ctx, tx, name, options.Kind, group); err != nil {
			return err
		}
		_, err = Note(ctx, tx, "db user add", map[string]any{"login": name, "group": group, "kind": options.Kind, "connections": options.Connections}, act)
		return err
	})
	if err != nil {
		return options, fmt.Errorf("making login %q: %w", name, pg.Plain(err))
	}
	return options, nil
}

// setKind marks a login as a person's or a service's, at the master; a change of the password
// alone keeps the kind. It refuses a login that was closed.
func setKind(ctx context.Context, tx pgx.Tx, name string, kind db.LoginKind, group db.Role) (db.LoginKind, error) {
	var master bool
	if err := tx.QueryRow(ctx, "select to_regprocedure('ocsp_internal.login_set(text, text, text)') is not null").Scan(&master); err != nil || !master {
		return kind, err
	}
	err := tx.QueryRow(ctx, "select ocsp_internal.login_set($1, nullif($2, ''), $3)", name, kind, db.KindOf(group)).Scan(&kind)
	return kind, err
}

// putLogin makes the role, with the requested number of connections, and returns the number.
func putLogin(ctx context.Context, tx pgx.Tx, name string, group db.Role, verifier string, connections *int) error {
	// Roles belong to the cluster and their rows cannot be waited for: one at a time.
	if _, err := tx.Exec(ctx, "lock table pg_catalog.pg_authid in share row exclusive mode"); err != nil {
		return err
	}
	var superuser, here bool
	var had int
	if err := tx.QueryRow(ctx, "select has_database_privilege($1, current_database(), 'connect')", group).Scan(&here); err != nil {
		return err
	}
	if !here {
		return fmt.Errorf("group %s may not even connect to this database: it is for the other end (a site, or the master)", group)
	}
	err := tx.QueryRow(ctx, `select rolsuper, case when exists (select from pg_auth_members m where m.member = r.oid and m.roleid = to_regrole($2)) then rolconnlimit else 0 end
		from pg_roles r where rolname = $1`, name, group).Scan(&superuser, &had)
	verb := "alter"
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		verb = "create"
	case err != nil:
		return err
	case superuser:
		return errors.New("it is a superuser: choose another name")
	}
	switch {
	case *connections > 0:
	case had > 0:
		*connections = had // a change of the password alone changes nothing else
	default:
		*connections = group.Connections()
	}
	login := pgx.Identifier{name}.Sanitize()
	replication := "noreplication"
	if group == db.RoleReplica {
		replication = "replication"
	}
	// A verifier has only base64, $, : and -: no quote can be in it.
	statements := []string{fmt.Sprintf("%s role %s login nosuperuser nocreatedb nocreaterole inherit %s connection limit %d password '%s'", verb, login, replication, *connections, verifier)}
	rows, err := tx.Query(ctx, `select g.rolname from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles r on r.oid = m.member
		where r.rolname = $1 and g.rolname = any ($2) and g.rolname <> $3`, name, db.Roles, group)
	if err != nil {
		return err
	}
	others, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, other := range others {
		statements = append(statements, fmt.Sprintf("revoke %s from %s", other, login))
	}
	statements = append(statements, fmt.Sprintf("grant %s to %s", group, login))
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// scramIterations is PostgreSQL's own default (scram_iterations). The work factor matters for
// passwords that can be guessed; these are random.
const scramIterations = 4096

// scramVerifier returns what PostgreSQL stores of a password (RFC 5803, RFC 7677): it verifies a
// login and cannot be used for one.
func scramVerifier(password string) (string, error) {
	if len(password) < 8 || len(password) > 128 {
		return "", errors.New("a password has 8 to 128 characters")
	}
	for _, c := range []byte(password) {
		// Beyond ASCII the client would have to normalise by SASLprep.
		if c < 0x20 || c > 0x7e {
			return "", errors.New("a password is made of printable ASCII characters")
		}
	}
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("deriving the verifier: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}

// Rights returns all rights in this database except an owner's, one a line, for migrations.Drift.
func (s *DB) Rights(ctx context.Context) ([]string, error) {
	return pg.List(ctx, s.pool, "reading the rights", pgx.RowTo[string], "select * from ocsp_internal.rights()")
}
