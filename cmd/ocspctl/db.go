package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/migrations"

	"github.com/spf13/cobra"
)

// The db verbs but force, limit and epoch take no --apply: they add what is missing and change
// nothing that is there but, with --repair, what somebody changed of the schema; db status
// shows beforehand what that is.
func (p *program) dbCommand() *cobra.Command {
	return cli.Noun("db", "set up and look at a database (as its superuser)",
		p.dbInitCommand(), p.dbMigrateCommand(), p.dbStatusCommand(), p.dbVerifyCommand(), p.dbForceCommand(), p.dbUserCommand(),
		p.dbLimitCommand(), p.dbSlotCommand(), p.dbEpochCommand(), p.dbPurgeCommand())
}

// roleFlag adds --role, whose default is the configuration's.
func roleFlag(cmd *cobra.Command, role *string) {
	cmd.Flags().StringVar(role, "role", "", "what the database is: `master|site` (default: role of the configuration)")
}

// atOnce takes --apply, so that it can be written everywhere, and ignores it.
func atOnce(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().Bool("apply", false, "")
	if err := cmd.Flags().MarkHidden("apply"); err != nil {
		panic(err) // no such flag: a slip in this program
	}
	return cmd
}

func (p *program) dbInitCommand() *cobra.Command {
	var role string
	cmd := p.Command("init", "migrate the schema and, at the master, make the head; again: no change", `
		ocspctl db init --role master
		ocspctl db init --role site --config site-a/ocspctl.yaml`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.dbUp(ctx, "db init", role, upOptions{makeHead: true})
		})
	roleFlag(cmd, &role)
	return atOnce(cmd)
}

func (p *program) dbMigrateCommand() *cobra.Command {
	var role string
	var options upOptions
	cmd := p.Command("migrate", "bring the schema to this program's version (sites first, the master last)", `
		ocspctl db migrate --role site
		ocspctl db migrate --repair`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error { return p.dbUp(ctx, "db migrate", role, options) })
	roleFlag(cmd, &role)
	cmd.Flags().BoolVar(&options.repair, "repair", false, "put back triggers, keys, columns and functions that somebody dropped or changed; a site's table that they no longer fit is emptied and seeded anew")
	return atOnce(cmd)
}

func (p *program) dbStatusCommand() *cobra.Command {
	var role string
	cmd := p.Command("status", "show the versions of the schema and the head", "ocspctl db status --output json",
		cobra.NoArgs, func(ctx context.Context, _ []string) error { return p.dbStatus(ctx, role) })
	roleFlag(cmd, &role)
	return cmd
}

// dbState is what the db verbs show.
type dbState struct {
	Role    string   `json:"role"`
	Schemas []schema `json:"schemas"`
	Head    *head    `json:"head"`  // null: none
	Drift   []string `json:"drift"` // what of the schema is not as the migrations made it
}

type schema struct {
	Folder  string `json:"folder"`
	Version uint   `json:"version"` // 0: nothing there
	Latest  uint   `json:"latest"`
	Dirty   bool   `json:"dirty"`
}

type head struct {
	Epoch        int64  `json:"epoch"`
	Position     int64  `json:"position"`
	AsOf         string `json:"as_of"`
	Issuers      int64  `json:"issuers"`
	Certificates int64  `json:"certificates"`
	Responder    int64  `json:"responder_certificates"`
	Audit        int64  `json:"audit_entries"`
	AuditMark    string `json:"audit_mark"` // N:HASH of the last entry, for audit verify --mark
}

// database returns the role, the superuser's URL and the settings.
func (p *program) database(role string) (migrations.Role, string, tables.Config, error) {
	cfg, err := p.config()
	if err != nil {
		return "", "", tables.Config{}, err
	}
	if role == "" {
		role = cfg.Role
	}
	if !slices.Contains([]string{string(migrations.Master), string(migrations.Site)}, role) {
		return "", "", tables.Config{}, cli.Usagef("--role %q: want master or site", role)
	}
	if err := cfg.WantRole(migrations.Role(role)); err != nil {
		return "", "", tables.Config{}, err
	}
	url, err := cfg.Database.Settings().URL()
	return migrations.Role(role), url, cfg.Database.Settings(), err
}

func readState(ctx context.Context, role migrations.Role, url string, settings tables.Config) (dbState, error) {
	versions, err := migrations.Versions(ctx, url, role)
	if err != nil {
		return dbState{}, err
	}
	state := dbState{Role: string(role), Drift: []string{}}
	for _, v := range versions {
		state.Schemas = append(state.Schemas, schema{v.Folder, v.Current, v.Latest, v.Dirty})
	}
	if versions[0].Current == 0 {
		return state, nil // no table to read a head from
	}
	store, err := masterdb.Open(ctx, settings)
	if err != nil {
		return dbState{}, err
	}
	defer store.Close()
	if !slices.ContainsFunc(state.Schemas, func(s schema) bool { return s.Dirty || s.Version != s.Latest }) {
		live, err := store.Shape(ctx, migrations.ShapeSQL, migrations.FactLine)
		if err != nil {
			return dbState{}, err
		}
		drift, _ := migrations.SchemaDrift(role, live)
		state.Drift = append(state.Drift, drift...)
	}
	h, err := store.Head(ctx)
	if errors.Is(err, db.ErrNoHead) || err != nil && len(state.Drift) > 0 { // it may be what is gone
		return state, nil
	}
	if err != nil {
		return dbState{}, err
	}
	state.Head = &head{h.Epoch, h.Position, cli.Stamp(h.AsOf), h.Issuers.Count, h.Certificates.Count, h.ResponderCertificates.Count, h.AuditCount, ctl.Mark(masterdb.AuditMark{N: h.AuditCount, Hash: h.AuditHash})}
	return state, nil
}

// problems says what the verbs of db would have to do here.
func (s dbState) problems() []string {
	var found []string
	for _, part := range s.Schemas {
		switch {
		case part.Dirty:
			found = append(found, fmt.Sprintf("schema %s broke off in version %d: repair it, then run ocspctl db force %s VERSION --apply", part.Folder, part.Version, part.Folder))
		case part.Version > part.Latest:
			found = append(found, fmt.Sprintf("schema %s has version %d, newer than this program's %d: upgrade the program", part.Folder, part.Version, part.Latest))
		case part.Version < part.Latest:
			found = append(found, fmt.Sprintf("schema %s has version %d of %d: run ocspctl db migrate --role %s", part.Folder, part.Version, part.Latest, s.Role))
		}
	}
	if len(s.Drift) > 0 {
		found = append(found, strings.Join(s.Drift, "; ")+": run ocspctl db migrate --repair --role "+s.Role)
	}
	if len(found) == 0 && s.Head == nil {
		if s.Role == string(migrations.Master) {
			return []string{"the master has no head: run ocspctl db init --role master"}
		}
		return []string{"the site was never seeded: start its ocspsyncd"}
	}
	return found
}

func (s dbState) tell(t *cli.Table) {
	t.Row("SCHEMA", "VERSION", "LATEST", "STATE")
	for _, part := range s.Schemas {
		state := "current"
		switch {
		case part.Dirty:
			state = "dirty"
		case part.Version != part.Latest:
			state = "behind"
			if part.Version > part.Latest {
				state = "ahead"
			}
		}
		t.Row(part.Folder, strconv.Itoa(int(part.Version)), strconv.Itoa(int(part.Latest)), state)
	}
	for _, drift := range s.Drift {
		t.Line("drift: " + drift)
	}
	if h := s.Head; h != nil {
		t.Line("")
		t.Row("epoch", strconv.FormatInt(h.Epoch, 10))
		t.Row("position", strconv.FormatInt(h.Position, 10))
		t.Row("as of", h.AsOf)
		t.Row("issuers", strconv.FormatInt(h.Issuers, 10))
		t.Row("certificates", strconv.FormatInt(h.Certificates, 10))
		t.Row("responder certificates", strconv.FormatInt(h.Responder, 10))
		t.Row("audit entries", strconv.FormatInt(h.Audit, 10))
		t.Row("audit mark", h.AuditMark)
	}
}

// noteDB writes what was done to the database itself into the master's audit.
func (p *program) noteDB(ctx context.Context, settings tables.Config, action string, what map[string]any) error {
	act, err := (&change{}).act()
	if err != nil {
		return err
	}
	store, err := masterdb.Open(ctx, settings)
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = store.Note(ctx, action, what, act)
	return err
}

// notedRepairs is how many objects the audit's entry names: it has 16 KiB.
const notedRepairs = 50

// upOptions is what dbUp does beside migrating.
type upOptions struct {
	makeHead bool // at the master
	repair   bool
}

// dbUp migrates, repairs, and makes the head.
func (p *program) dbUp(ctx context.Context, action, roleName string, options upOptions) error {
	role, url, settings, err := p.database(roleName)
	if err != nil {
		return err
	}
	before, err := readState(ctx, role, url, settings)
	if err != nil {
		return err
	}
	var repaired migrations.Repaired
	if options.repair {
		repaired, err = migrations.Repair(ctx, url, role)
	} else {
		err = migrations.Up(ctx, url, role)
	}
	switch {
	case err != nil && len(before.Drift) > 0 && !options.repair:
		return cli.Wrongf("%s (%v)", strings.Join(before.problems(), "; "), err)
	case err != nil:
		return err
	}
	if options.makeHead && role == migrations.Master && before.Head == nil {
		store, err := masterdb.Open(ctx, settings)
		if err != nil {
			return err
		}
		defer store.Close()
		if err := store.InitHead(ctx, p.Now()); err != nil {
			return err
		}
	}
	after, err := readState(ctx, role, url, settings)
	if err != nil {
		return err
	}
	changed := (before.Head == nil) != (after.Head == nil) || !slices.Equal(before.Schemas, after.Schemas) || len(repaired.Done) > 0
	if changed {
		what := map[string]any{"schemas": after.Schemas}
		if n := len(repaired.Done); n > 0 {
			what["repaired"], what["repaired_count"] = repaired.Done[:min(n, notedRepairs)], n
		}
		if err := p.noteDB(ctx, settings, action, what); err != nil {
			return err
		}
		if after, err = readState(ctx, role, url, settings); err != nil { // with the note
			return err
		}
	}
	result := struct {
		cli.Outcome
		dbState
		migrations.Repaired
		Connections *connections `json:"connections,omitempty"`
	}{Outcome: cli.NewOutcome(action, true, changed), dbState: after, Repaired: repaired}
	if options.makeHead {
		if result.Connections, err = connectionsOf(ctx, settings); err != nil {
			return err
		}
	}
	if err := p.Print(result, func(t *cli.Table) {
		after.tell(t)
		for _, object := range repaired.Done {
			t.Line("put back: " + object)
		}
		for _, table := range repaired.Emptied {
			t.Line("emptied: " + table + ": what was gone or stood twice cannot be told any more; ocspsyncd seeds it anew")
		}
		for _, refused := range repaired.Refused {
			t.Line("NOT put back: " + refused)
		}
		if result.Connections != nil {
			result.Connections.tell(t)
		}
		result.Outcome.Tell(t)
	}); err != nil {
		return err
	}
	switch {
	case len(repaired.Refused) > 0:
		return cli.Wrongf("%d objects of the schema are not put back", len(repaired.Refused))
	case len(after.Drift) > 0:
		return cli.Wrongf("%s", strings.Join(after.problems(), "; "))
	}
	return nil
}

func (p *program) dbStatus(ctx context.Context, roleName string) error {
	role, url, settings, err := p.database(roleName)
	if err != nil {
		return err
	}
	state, err := readState(ctx, role, url, settings)
	if err != nil {
		return err
	}
	if err := p.Print(state, state.tell); err != nil {
		return err
	}
	if problems := state.problems(); len(problems) > 0 {
		return cli.Wrongf("%s", strings.Join(problems, "; "))
	}
	return nil
}
