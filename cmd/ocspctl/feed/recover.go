package feed

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/cmd/ocspctl/internal/reentry"
	"ocspfleet/sync/recovery"
)

// recoverLost is feed recover.
type recoverLost struct {
	cli.Change
	asking
	From string `flag:"from,required" help:"<URL|FILE>: https://HOST:PORT of a site's feed, or ocspctl's configuration for a site's database"`
}

func (recoverLost) Doc() cli.Doc {
	return cli.Doc{
		Name: "recover", Short: "enter again what this master signed and lost; exit code 3 when it lacks something",
		Long: `For a master that was restored from a backup, or a standby that lagged and was
promoted. Reads snapshot and segments from a site, verifies who signed each by
the newest key set under feed.root, and lists what the master lacks: issued
certificates, holds, revocations. Nothing is taken back: where the master says
more, that stays. --apply asks for a second person (ocspctl approve); once that
is given, the same command enters them, with their times, reasons and ends.
What certificates do not say is named with the command that mends it: issuers,
policies, the sites' own certificates, corrections. Stop ocspsyncd at the master
first, begin the new epoch after (docs/operations.md).`,
		Example: `
		ocspctl feed recover --from https://site-a.example:9443 --pin 1f3a...
		ocspctl feed recover --from site-a.yaml --why 'restored from the backup of 2026-11-20' --apply`,
	}
}

// open returns the source, and a function that closes it.
func (v *recoverLost) open(ctx context.Context, m *ctl.Master) (recovery.Source, func(), error) {
	if !strings.Contains(v.From, "://") {
		site, err := ctl.OpenSite(ctx, v.From)
		if err != nil {
			return nil, nil, fmt.Errorf("opening the site's database: %w", err)
		}
		return recovery.FromSite(site.DB, v.From), site.Close, nil
	}
	u, err := url.Parse(v.From)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, nil, cli.Usagef("--from %q: want https://HOST:PORT, or a file", v.From)
	}
	v.TLSKey = cmp.Or(v.TLSKey, m.Config.Feed.TLSKeyFile)
	client, err := v.dial(u)
	if err != nil {
		return nil, nil, err
	}
	return recovery.FromURL(client), client.Close, nil
}

func (v *recoverLost) Run(ctx context.Context, m *ctl.Master) error {
	root, err := m.Config.Feed.Verifier()
	if err != nil {
		return err
	}
	source, done, err := v.open(ctx, m)
	if err != nil {
		return err
	}
	defer done()
	history, err := recovery.Read(ctx, m.Store, root, source)
	if err != nil {
		return keyset.Judged(err)
	}
	plan, err := recovery.Compare(ctx, m.Store, history, source.String())
	if err != nil {
		return err
	}
	outcome, err := reentry.Enter(ctx, m.Store, plan.Recovery, plan.Enter, v.Change)
	if err != nil {
		return err
	}
	last := cli.Said(outcome.Tell)
	if len(plan.Enter) == 0 {
		last = cli.Line("The master has every certificate that its feed has.")
	}
	if err := m.Show(cli.Quiet(outcome), reentry.Plan{Plan: plan, History: history}, last); err != nil {
		return err
	}
	if entered := outcome.Applied && outcome.Request == nil && !plan.Others(); !entered && plan.Lost() {
		return cli.Wrongf("the master lacks what it signed: %s", plan)
	}
	return nil
}
