package audit

import (
	"context"
	"encoding/json"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/auditchain"
	"ocspfleet/db/masterdb"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	return p.Verbs("audit", "who did what, when and why: hash-chained at the master",
		ctl.AtMaster(&list{choice: choice{Limit: 50}}), ctl.AtMaster(&verify{}), ctl.AtMaster(&export{Form: "csv"}))
}

// choice chooses entries.
type choice struct {
	Since string `flag:"since" help:"from this <TIME> on, or so long ago: 2026-11-22T15:04:05Z, 24h"`
	Until string `flag:"until" help:"before this <TIME>, or so long ago"`
	Act   string `flag:"act" help:"this <ACT> alone, or all of a noun: 'cert revoke', cert"`
	User  string `flag:"user" help:"this <NAME> alone: a login of the database or a user of the operating system"`
	Limit int    `flag:"limit" help:"the newest so many; 0: all"`
}

func (c choice) filter(now time.Time) (masterdb.AuditFilter, error) {
	f := masterdb.AuditFilter{Act: c.Act, User: c.User, Limit: c.Limit}
	if c.Limit < 0 {
		return f, cli.Usagef("--limit %d: want 0 or more", c.Limit)
	}
	for _, bound := range []struct {
		flag, text string
		to         *time.Time
	}{{"--since", c.Since, &f.Since}, {"--until", c.Until, &f.Until}} {
		if bound.text == "" {
			continue
		}
		if ago, err := time.ParseDuration(bound.text); err == nil && ago >= 0 {
			*bound.to = now.Add(-ago)
			continue
		}
		at, err := cli.ParseTime(bound.text)
		if err != nil {
			return f, cli.Usagef("%s: %v", bound.flag, err)
		}
		*bound.to = at
	}
	return f, nil
}

// list is audit list.
type list struct{ choice }

func (list) Doc() cli.Doc {
	return cli.Doc{
		Name: "list", Short: "show the newest entries, the last one at the end",
		Long: `Entries are chained by hash at COMMIT, in the order of the commits. LOGIN is the
database's login, which is proven; USER is what the client said of its operating
system's user. The act "direct" is a change by SQL, outside the functions.`,
		Example: `
		ocspctl audit list
		ocspctl audit list --since 24h --act 'cert revoke'
		ocspctl audit list --user alice --limit 0 --output json`,
	}
}

// entryTime is the form of an entry's time: microseconds, as it was hashed.
const entryTime = "2006-01-02T15:04:05.000000Z"

// record returns an entry; the act's details come last.
func record(e auditchain.Entry) cli.Record {
	return cli.Record{
		cli.F("n", "N", e.N), cli.Shown("at", "AT", e.At.UTC().Format(entryTime), cli.Stamp(e.At)),
		cli.F("db_role", "LOGIN", e.DBRole), cli.F("os_user", "USER", e.OSUser), cli.F("act", "ACT", e.Act), cli.F("why", "WHY", e.Why),
		cli.F("position", "", e.Position), cli.F("hash", "", e.Hash), cli.F("what", "WHAT", json.RawMessage(e.What)),
	}
}

func (v *list) Run(ctx context.Context, m *ctl.Master) error {
	filter, err := v.filter(m.Now())
	if err != nil {
		return err
	}
	var entries []auditchain.Entry
	if err := m.Store.AuditEntries(ctx, filter, func(e auditchain.Entry) error {
		entries = append(entries, e)
		return nil
	}); err != nil {
		return err
	}
	return m.Show(cli.List("entries", entries, record))
}
