package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/auditchain"
	"ocspfleet/db/masterdb"
	"ocspfleet/migrations"
)

// status is db status.
type status struct{ roleFlag }

func (status) Doc() cli.Doc {
	return cli.Doc{
		Name: "status", Short: "show the versions of the schema and the head",
		Long: `Shows per part of the schema its version and the newest known, and the head:
where this database is in the fleet's history. The audit mark of a site, noted
there, proves the master's audit: audit verify --mark.`,
		Example: "ocspctl db status --output json",
	}
}

func (v *status) Run(ctx context.Context, p *cli.Program) error {
	at, err := v.place(p)
	if err != nil {
		return err
	}
	s, err := at.state(ctx)
	if err != nil {
		return err
	}
	if err := p.Show(s.parts()...); err != nil {
		return err
	}
	return s.wrong()
}

// state is the state of a database.
type state struct {
	role    migrations.Role
	schemas []migrations.Version
	head    *db.Head // nil: none
	drift   []string // differences between the schema and the migrations
}

func (p place) state(ctx context.Context) (state, error) {
	s := state{role: p.role}
	var err error
	if s.schemas, err = migrations.Versions(ctx, p.url, p.role); err != nil || s.schemas[0].Current == 0 {
		return s, err // without a schema there is no table to read a head from
	}
	store, err := masterdb.Open(ctx, p.settings)
	if err != nil {
		return s, err
	}
	defer store.Close()
	if !slices.ContainsFunc(s.schemas, func(v migrations.Version) bool { return v.Dirty || v.Current != v.Latest }) {
		live, err := store.Shape(ctx, migrations.ShapeSQL, migrations.FactLine)
		if err != nil {
			return s, err
		}
		s.drift, _ = migrations.SchemaDrift(p.role, live)
	}
	head, err := store.Head(ctx)
	switch {
	case errors.Is(err, db.ErrNoHead) || err != nil && len(s.drift) > 0: // the head row may be what is missing
		return s, nil
	case err != nil:
		return s, err
	}
	s.head = &head
	return s, nil
}

// wrong returns an error with exit code 3 if a verb of db has something to do here.
func (s state) wrong() error {
	if found := s.problems(); len(found) > 0 {
		return cli.Wrongf("%s", strings.Join(found, "; "))
	}
	return nil
}

func (s state) problems() []string {
	var found []string
	for _, v := range s.schemas {
		switch {
		case v.Dirty:
			found = append(found, fmt.Sprintf("schema %s broke off in version %d: repair it, then run ocspctl db force %s VERSION --apply", v.Folder, v.Current, v.Folder))
		case v.Current > v.Latest:
			found = append(found, fmt.Sprintf("schema %s has version %d, newer than this program's %d: upgrade the program", v.Folder, v.Current, v.Latest))
		case v.Current < v.Latest:
			found = append(found, fmt.Sprintf("schema %s has version %d of %d: run ocspctl db migrate --role %s", v.Folder, v.Current, v.Latest, s.role))
		}
	}
	if len(s.drift) > 0 {
		found = append(found, strings.Join(s.drift, "; ")+": run ocspctl db migrate --repair --role "+string(s.role))
	}
	if len(found) == 0 && s.head == nil {
		if s.role == migrations.Master {
			return []string{"the master has no head: run ocspctl db init --role master"}
		}
		return []string{"the site was never seeded: start its ocspsyncd"}
	}
	return found
}

func (s state) parts() []cli.Part {
	var head cli.Part = cli.Record{cli.F("head", "", nil)}
	if h := s.head; h != nil {
		head = cli.Below(cli.Object("head", cli.Record{
			cli.F("epoch", "epoch", h.Epoch), cli.F("position", "position", h.Position), cli.F("as_of", "as of", h.AsOf),
			cli.F("issuers", "issuers", h.Issuers.Count), cli.F("certificates", "certificates", h.Certificates.Count),
			cli.F("responder_certificates", "responder certificates", h.ResponderCertificates.Count), cli.F("audit_entries", "audit entries", h.AuditCount),
			cli.F("audit_mark", "audit mark", ctl.Mark(auditchain.Mark{N: h.AuditCount, Hash: h.AuditHash})),
		}))
	}
	return []cli.Part{
		cli.Record{cli.F("role", "", s.role)},
		cli.List("schemas", s.schemas, schema),
		lines("drift: %s", s.drift), head,
		cli.Record{cli.F("drift", "", s.drift)},
	}
}

// lines returns a line for people for each of the texts.
func lines(format string, texts []string) cli.Part {
	return cli.Said(func(t *cli.Table) {
		for _, text := range texts {
			t.Linef(format, text)
		}
	})
}

// schema returns a part of the schema; version 0: nothing is there.
func schema(v migrations.Version) cli.Record {
	word := "current"
	switch {
	case v.Dirty:
		word = "dirty"
	case v.Current > v.Latest:
		word = "ahead"
	case v.Current < v.Latest:
		word = "behind"
	}
	return cli.Record{
		cli.F("folder", "SCHEMA", v.Folder), cli.F("version", "VERSION", v.Current), cli.F("latest", "LATEST", v.Latest),
		cli.F("dirty", "", v.Dirty), cli.F("", "STATE", word),
	}
}
