package database

import (
	"context"
	"slices"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/migrations"
)

// initialize is db init.
type initialize struct {
	cli.AtOnce
	roleFlag
}

func (initialize) Doc() cli.Doc {
	return cli.Doc{
		Name: "init", Short: "migrate the schema and, at the master, make the head; again: no change",
		Long: `Brings the schema to this program's version and, at the master, makes the one
head row that every change is counted into. What is there already stays. The
login must be a superuser. A site needs no head: its ocspsyncd seeds it. It says what
max_connections is to be set to: each login has a limit (db user add).`,
		Example: `
		ocspctl db init --role master
		ocspctl db init --role site --config site-a/ocspctl.yaml`,
	}
}

func (v *initialize) Run(ctx context.Context, p *cli.Program) error {
	return v.up(ctx, p, "db init", true, false)
}

// migrate is db migrate.
type migrate struct {
	cli.AtOnce
	roleFlag
	Repair bool `flag:"repair" help:"put back triggers, keys, columns and functions that somebody dropped or changed; a site's table that they no longer fit is emptied and seeded anew"`
}

func (migrate) Doc() cli.Doc {
	return cli.Doc{
		Name: "migrate", Short: "bring the schema to this program's version (sites first, the master last)",
		Long: `Brings the schema to this program's version. Logical replication copies no
schema, so migrate every site first and the master last. Daemons never migrate;
they refuse a schema that they do not know. At the master it stands in the audit.`,
		Example: `
		ocspctl db migrate --role site
		ocspctl db migrate --repair`,
	}
}

func (v *migrate) Run(ctx context.Context, p *cli.Program) error {
	return v.up(ctx, p, "db migrate", false, v.Repair)
}

// notedRepairs is how many objects the audit's entry names, which is limited to 16 KiB.
const notedRepairs = 50

// up migrates, or repairs, and makes the head of a master.
func (f roleFlag) up(ctx context.Context, p *cli.Program, action string, first, repair bool) error {
	at, err := f.place(p)
	if err != nil {
		return err
	}
	before, err := at.state(ctx)
	if err != nil {
		return err
	}
	var repaired migrations.Repaired
	if repair {
		repaired, err = migrations.Repair(ctx, at.url, at.role)
	} else {
		err = migrations.Up(ctx, at.url, at.role)
	}
	switch {
	case err != nil && len(before.drift) > 0 && !repair:
		return cli.Wrongf("%s (%v)", strings.Join(before.problems(), "; "), err)
	case err != nil:
		return err
	}
	if first && at.role == migrations.Master && before.head == nil {
		store, err := masterdb.Open(ctx, at.settings)
		if err != nil {
			return err
		}
		defer store.Close()
		if err := store.InitHead(ctx, p.Now()); err != nil {
			return err
		}
	}
	after, err := at.state(ctx)
	if err != nil {
		return err
	}
	changed := (before.head == nil) != (after.head == nil) || !slices.Equal(before.schemas, after.schemas) || len(repaired.Done) > 0
	if changed {
		what := map[string]any{"schemas": cli.Records(after.schemas, schema)}
		if n := len(repaired.Done); n > 0 {
			what["repaired"], what["repaired_count"] = repaired.Done[:min(n, notedRepairs)], n
		}
		if err := at.note(ctx, action, what); err != nil {
			return err
		}
		if after, err = at.state(ctx); err != nil { // including the note
			return err
		}
	}
	parts := slices.Concat(after.parts(),
		found("repaired", "put back: %s", repaired.Done),
		found("emptied", "emptied: %s: what was gone or stood twice cannot be told any more; ocspsyncd seeds it anew", repaired.Emptied),
		found("refused", "NOT put back: %s", repaired.Refused))
	if first {
		c, err := at.connections(ctx)
		if err != nil {
			return err
		}
		parts = append(parts, c...)
	}
	if err := p.ShowChange(cli.NewOutcome(action, true, changed), parts...); err != nil {
		return err
	}
	switch {
	case len(repaired.Refused) > 0:
		return cli.Wrongf("%d objects of the schema are not put back", len(repaired.Refused))
	case len(after.drift) > 0:
		return after.wrong()
	}
	return nil
}

// found returns a list that the document has only if it is not empty, a line for each.
func found(key, format string, texts []string) []cli.Part {
	if len(texts) == 0 {
		return nil
	}
	return []cli.Part{lines(format, texts), cli.Record{cli.F(key, "", texts)}}
}

// connections returns the text of db init on max_connections.
func (p place) connections(ctx context.Context) ([]cli.Part, error) {
	store, err := tables.Open(ctx, p.settings)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	c, err := store.ConnectionLimits(ctx)
	return []cli.Part{
		cli.Quiet(cli.Object("connections", cli.Record{
			cli.F("max_connections", "", c.Max), cli.F("reserved", "", c.Reserved), // for superusers
			cli.F("logins", "", c.Logins), cli.F("sum", "", c.Sum), // of ours, and of their limits
		})),
		cli.Line(""),
		cli.Line("Set max_connections to at least the sum of the logins' limits, and %d for superusers. It is %d; the sum is %d, of %d logins.", c.Reserved, c.Max, c.Sum, c.Logins),
		cli.Line("Each db user add takes: a site that replicates %d, a daemon %d, a person %d, the CA's software %d. ocspctl doctor adds them up.",
			db.RoleReplica.Connections(), db.RoleSync.Connections(), db.RoleOperator.Connections(), db.RoleCA.Connections()),
	}, err
}
