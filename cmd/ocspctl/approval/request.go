package approval

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/ops/doctor"
)

// bulk is approval request bulk.
type bulk struct {
	cli.Change
	Count int64  `flag:"count,required" help:"how many revocations (<N>)"`
	Login string `flag:"login" help:"who may revoke them: the <LOGIN> of a person or a program (default: yours)"`
}

func (bulk) Doc() cli.Doc {
	return cli.Doc{
		Name: "bulk", Short: "ask for an allowance of revocations beyond the hourly limit",
		Long: `A login revokes at most 100 certificates an hour (or what db limit says) on one
person's word. Once another person has approved, the login that the request names
may revoke COUNT more, by cert revoke, cert hold or cert import, for 24 hours.
A program, as the CA's software, asks for nothing itself: two persons name its
login. Certificates that come in revoked and responder revoke need no allowance.`,
		Example: "ocspctl approval request bulk --count 500 --login ca_software --why 'incident 12: the keys of branch 7 leaked' --apply",
	}
}

func (v *bulk) Run(ctx context.Context, m *ctl.Master) error {
	if v.Count < 1 || v.Count > 1_000_000_000 {
		return cli.Usagef("--count %d: want 1 to 1000000000", v.Count)
	}
	if err := v.WantWhy("a request for approval"); err != nil {
		return err
	}
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	l, err := m.Store.Limit(ctx)
	if err != nil {
		return err
	}
	requested, err := ctl.Request(v.Change, func() (int64, time.Time, error) { return m.Store.RequestBulk(ctx, v.Count, v.Login, act) })
	if err != nil {
		return err
	}
	return m.ShowChange(requested, cli.Record{
		cli.F("count", "revocations asked for", v.Count), cli.Shown("login", "by login", cli.OrNil(v.Login), cmp.Or(v.Login, "your own")),
		cli.F("revocations_per_hour", "allowed an hour without", l.PerHour), cli.Shown("used_in_the_last_hour", "used in the last hour", l.Mine, fmt.Sprintf("%d by your own", l.Mine)),
	})
}

// fork is approval request fork.
type fork struct {
	cli.Change
	Forks []int64 `flag:"fork" help:"the <NUMBER> of a fork (fleet status); may stand several times (default: all that are open)"`
}

func (fork) Doc() cli.Doc {
	return cli.Doc{
		Name: "fork", Short: "ask a second person to agree that forks of the feed were looked into",
		Long: `A fork is two statements of the feed that cannot both be true: a key of the master
was stolen, or two masters publish (docs/feed-keys.md). fleet status, doctor and the
master's ocspsyncd fail while one is proven. Once two persons have agreed, it is
settled: the sites that handed it in learn of it within a minute. A key set that bans
the key needs none of this.`,
		Example: `
		ocspctl approval request fork --why 'ocspsyncd ran at the old master, too; it is switched off' --apply
		ocspctl approval request fork --fork 3 --fork 4 --why 'site-b was restored from a copy' --apply`,
	}
}

func (v *fork) Run(ctx context.Context, m *ctl.Master) error {
	if err := v.WantWhy("a request for approval"); err != nil {
		return err
	}
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	forks, err := keyset.Forks(ctx, m.Store, m.Config)
	if err != nil {
		return err
	}
	requested, err := ctl.Request(v.Change, func() (int64, time.Time, error) { return m.Store.RequestForkSettle(ctx, v.Forks, act) })
	if err != nil {
		return err
	}
	forks = slices.DeleteFunc(forks, func(f doctor.Fork) bool { return len(v.Forks) > 0 && !slices.Contains(v.Forks, f.ID) })
	return m.ShowChange(requested, cli.Quiet(cli.List("forks", forks, keyset.ForkRecord)), cli.Said(func(t *cli.Table) {
		for _, f := range forks {
			t.Row(fmt.Sprintf("fork %d", f.ID), keyset.ForkText(f))
		}
	}))
}
