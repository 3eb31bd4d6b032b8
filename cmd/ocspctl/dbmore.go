package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/migrations"

	"github.com/spf13/cobra"
)

func (p *program) dbVerifyCommand() *cobra.Command {
	return p.Command("verify", "recount every replicated row, compare with the head and, at the master, with the log of changes; exit code 3 when unequal",
		"ocspctl db verify", cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atEither(ctx, func(store *tables.DB, cfg *config.Config) error { return p.dbVerify(ctx, store, cfg) })
		})
}

type tally struct {
	Table     string `json:"table"`
	Counted   int64  `json:"counted"`
	Digest    string `json:"digest"` // decimal: JSON numbers are too short for 64 bits
	Head      int64  `json:"head_count"`
	HeadSum   string `json:"head_digest"`
	Identical bool   `json:"identical"`
}

// logFault is a row that is not what the log of changes says last of it.
type logFault struct {
	Table string `json:"table"`
	Key   string `json:"key"` // hex: issuer, then length and octets of the serial
	Why   string `json:"why"`
}

func (p *program) dbVerify(ctx context.Context, store *tables.DB, cfg *config.Config) error {
	counts, err := store.Verify(ctx)
	if err != nil {
		return err
	}
	tallies, unequal := make([]tally, len(counts)), []string{}
	for i, c := range counts {
		tallies[i] = tally{
			c.Table, c.Counted.Count, strconv.FormatUint(uint64(c.Counted.Digest), 10),
			c.Head.Count, strconv.FormatUint(uint64(c.Head.Digest), 10), c.Identical,
		}
		if !c.Identical {
			unequal = append(unequal, c.Table)
		}
	}
	var faults []masterdb.LogFault
	if migrations.Role(cfg.Role) == migrations.Master {
		err := p.atMaster(ctx, func(master *masterdb.DB, _ *config.Config) (err error) {
			faults, err = master.VerifyLog(ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	found := make([]logFault, len(faults))
	for i, f := range faults {
		found[i] = logFault{f.Table, hex.EncodeToString(f.Key), f.Why}
	}
	err = p.Print(map[string]any{"tables": tallies, "log_faults": found}, func(t *cli.Table) {
		t.Row("TABLE", "ROWS", "DIGEST", "HEAD ROWS", "HEAD DIGEST", "EQUAL")
		for _, c := range tallies {
			t.Row(c.Table, strconv.FormatInt(c.Counted, 10), c.Digest, strconv.FormatInt(c.Head, 10), c.HeadSum, cli.Yes(c.Identical))
		}
		for _, f := range found {
			t.Row(f.Table, f.Key, f.Why)
		}
	})
	switch {
	case err == nil && len(unequal) > 0:
		err = cli.Wrongf("the rows of %s are not what the head says", strings.Join(unequal, ", "))
	case err == nil && len(found) > 0:
		err = cli.Wrongf("rows are not what the log of changes says: somebody wrote past the triggers (docs/operations.md, The master was poisoned)")
	}
	return err
}

func (p *program) dbForceCommand() *cobra.Command {
	var apply bool
	cmd := p.Command("force FOLDER VERSION", "declare a broken migration repaired: the schema of FOLDER (common, master, site) is at VERSION",
		"ocspctl db force master 110 --apply", cobra.ExactArgs(2), func(ctx context.Context, args []string) error {
			return p.dbForce(ctx, args[0], args[1], apply)
		})
	cmd.Flags().BoolVar(&apply, "apply", false, "do it; without it the plan is shown and nothing is done")
	return cmd
}

func (p *program) dbForce(ctx context.Context, folder, text string, apply bool) error {
	version, err := strconv.ParseUint(text, 10, 31)
	if err != nil || version == 0 {
		return cli.Usagef("version %q: want a number from 1", text)
	}
	role, url, settings, err := p.database("")
	if err != nil {
		return err
	}
	if !slices.Contains(role.Folders(), folder) {
		return cli.Usagef("schema %q: a %s has %s", folder, role, strings.Join(role.Folders(), " and "))
	}
	state, err := readState(ctx, role, url, settings)
	if err != nil {
		return err
	}
	at := state.Schemas[slices.IndexFunc(state.Schemas, func(s schema) bool { return s.Folder == folder })]
	if apply {
		if err := migrations.Force(ctx, url, folder, uint(version)); err != nil {
			return err
		}
		if err := p.noteDB(ctx, settings, "db force", map[string]any{
			"schema": folder, "before": at.Version, "dirty": at.Dirty, "version": version,
		}); err != nil {
			return err
		}
	}
	result := struct {
		cli.Outcome
		Schema  schema `json:"schema"` // before
		Version uint64 `json:"version"`
	}{cli.NewOutcome("db force", apply, at.Dirty || uint64(at.Version) != version), at, version}
	return p.Print(result, func(t *cli.Table) {
		t.Row("schema", folder)
		t.Row("version before", fmt.Sprintf("%d (dirty: %t)", at.Version, at.Dirty))
		t.Row("version", text)
		result.Tell(t)
	})
}

// groups are the roles of the migrations by the names that --role takes.
var groups = map[string]db.Role{
	"responder": db.RoleResponder, "sync": db.RoleSync, "ca": db.RoleCA,
	"operator": db.RoleOperator, "publisher": db.RolePublisher, "replica": db.RoleReplica,
}

func (p *program) dbUserCommand() *cobra.Command {
	var role, kind, passwordFile string
	var connections int
	names := slices.Sorted(maps.Keys(groups))
	var add *cobra.Command
	add = p.Command("add NAME", "make a login, or set right its role and password", `
		ocspctl db user add alice --role operator --password-file alice.pw
		ocspctl db user add site_a --role replica --password-file site_a.pw`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			group, ok := groups[role]
			if !ok {
				return cli.Usagef("--role %q: want one of %s", role, strings.Join(names, ", "))
			}
			if kind != "" && db.LoginKind(kind) != db.KindPerson && db.LoginKind(kind) != db.KindService {
				return cli.Usagef("--kind %q: want person or service", kind)
			}
			if add.Flags().Changed("connections") && connections < 1 {
				return cli.Usagef("--connections %d: want 1 or more", connections)
			}
			return p.atEither(ctx, func(store *tables.DB, _ *config.Config) error {
				return p.dbUserAdd(ctx, store, args[0], role, group, passwordFile, tables.LoginOptions{Kind: db.LoginKind(kind), Connections: connections})
			})
		})
	add.Long = `A login is a person's or a program's (a service's): requests and approvals are
persons' alone, and services never use up the persons' share of the hourly limit
(db limit). A login that was closed with its site is refused.`
	add.Flags().StringVar(&role, "role", "", "what the login may do: `"+strings.Join(names, "|")+"`")
	add.Flags().StringVar(&kind, "kind", "", "whose it is: `person|service` (default: what it has, for a new one person for operator, else service)")
	add.Flags().StringVar(&passwordFile, "password-file", "", "read the password from the first line of `FILE`")
	add.Flags().IntVar(&connections, "connections", 0, "at most `N` connections at a time (default: what it has, for a new one that of its role)")
	require(add, "role", "password-file")
	return cli.Noun("user", "logins of the daemons and of people", atOnce(add), p.dbUserListCommand(), p.dbUserRemoveCommand())
}

func (p *program) dbUserAdd(ctx context.Context, store *tables.DB, name, role string, group db.Role, passwordFile string, options tables.LoginOptions) error {
	raw, err := os.ReadFile(passwordFile)
	if err != nil {
		return fmt.Errorf("reading the password: %w", err)
	}
	password := strings.TrimRight(string(raw), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n\x00") {
		return fmt.Errorf("reading the password: %s: want one line", passwordFile)
	}
	act, err := (&change{}).act()
	if err != nil {
		return err
	}
	is, err := store.CreateLoginWith(ctx, name, group, password, options, act)
	if err != nil {
		return err
	}
	result := struct {
		cli.Outcome
		Name string `json:"name"`
		Role string `json:"role"`
		Kind string `json:"kind"` // person or service

		Connections int `json:"connections"` // at most, at a time
	}{cli.NewOutcome("db user add", true, true), name, role, string(is.Kind), is.Connections}
	return p.Print(result, func(t *cli.Table) {
		t.Row("login", name)
		t.Row("role", string(group))
		t.Row("kind", string(is.Kind))
		t.Row("connections", strconv.Itoa(is.Connections))
		result.Tell(t)
	})
}
