package database

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/migrations"
)

// force is db force.
type force struct {
	Apply   bool   `flag:"apply" help:"do it; without it the plan is shown and nothing is done"`
	Folder  string `arg:"FOLDER"`
	Version string `arg:"VERSION"`
}

func (force) Doc() cli.Doc {
	return cli.Doc{
		Name: "force", Short: "declare a broken migration repaired: the schema of FOLDER (common, master, site) is at VERSION",
		Long: `For after a migration that broke off and was repaired by hand: it writes the
version down and changes nothing else. At the master it stands in the audit.`,
		Example: "ocspctl db force master 110 --apply",
	}
}

func (v *force) Run(ctx context.Context, p *cli.Program) error {
	version, err := strconv.ParseUint(v.Version, 10, 31)
	if err != nil || version == 0 {
		return cli.Usagef("version %q: want a number from 1", v.Version)
	}
	at, err := roleFlag{}.place(p)
	if err != nil {
		return err
	}
	if !slices.Contains(at.role.Folders(), v.Folder) {
		return cli.Usagef("schema %q: a %s has %s", v.Folder, at.role, strings.Join(at.role.Folders(), " and "))
	}
	s, err := at.state(ctx)
	if err != nil {
		return err
	}
	was := s.schemas[slices.IndexFunc(s.schemas, func(s migrations.Version) bool { return s.Folder == v.Folder })]
	if v.Apply {
		if err := migrations.Force(ctx, at.url, v.Folder, uint(version)); err != nil {
			return err
		}
		if err := at.note(ctx, "db force", map[string]any{
			"schema": v.Folder, "before": was.Current, "dirty": was.Dirty, "version": version,
		}); err != nil {
			return err
		}
	}
	return p.ShowChange(cli.NewOutcome("db force", v.Apply, was.Dirty || uint64(was.Current) != version), cli.Record{
		cli.F("schema", "", schema(was)), cli.F("", "schema", v.Folder),
		cli.F("", "version before", fmt.Sprintf("%d (dirty: %t)", was.Current, was.Dirty)), cli.F("version", "version", version),
	})
}
