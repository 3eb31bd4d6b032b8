package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/recovery"

	"github.com/spf13/cobra"
)

func (p *program) feedRecoverCommand() *cobra.Command {
	var c change
	var r feedSource
	cmd := p.Command("recover", "enter again what this master signed and lost; exit code 3 when it lacks something", `
		ocspctl feed recover --from https://site-a.example:9443 --pin 1f3a...
		ocspctl feed recover --from site-a.yaml --why 'restored from the backup of 2026-11-20' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.feedRecover(ctx, store, cfg, c, r) })
		})
	cmd.Long = `For a master that was restored from a backup, or a standby that lagged and was
promoted. Reads snapshot and segments from a site, verifies who signed each by
the newest key set under feed.root, and lists what the master lacks: issued
certificates, holds, revocations. Nothing is taken back: where the master says
more, that stays. --apply asks for a second person (ocspctl approve); once that
is given, the same command enters them, with their times, reasons and ends.
What certificates do not say is named with the command that mends it: issuers,
policies, the sites' own certificates, corrections. Stop ocspsyncd at the master
first, begin the new epoch after (docs/operations.md).`
	r.flags(cmd)
	c.flags(cmd)
	require(cmd, "from")
	return cmd
}

// feedSource is where signed files of the feed are read.
type feedSource struct{ from, pin, tlsKey string }

func (r *feedSource) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.from, "from", "", "`URL|FILE`: https://HOST:PORT of a site's feed, or ocspctl's configuration for a site's database")
	f.StringVar(&r.pin, "pin", "", "the `PIN` of the source's TLS key, for a URL")
	f.StringVar(&r.tlsKey, "tls-key", "", "ask with the TLS key in `FILE` (default: feed.tls_key_file of the configuration)")
}

// open returns the source, and what closes it.
func (r *feedSource) open(ctx context.Context, p *program, cfg *config.Config) (recovery.Source, func(), error) {
	if !strings.Contains(r.from, "://") {
		site, err := ctl.OpenSite(ctx, r.from)
		if err != nil {
			return nil, nil, fmt.Errorf("opening the site's database: %w", err)
		}
		return recovery.FromSite(site.DB, r.from), site.Close, nil
	}
	u, err := url.Parse(r.from)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, nil, cli.Usagef("--from %q: want https://HOST:PORT, or a file", r.from)
	}
	client, err := dialFeed(u, r.pin, cmp.Or(r.tlsKey, cfg.Feed.TLSKeyFile))
	if err != nil {
		return nil, nil, err
	}
	return recovery.FromURL(client), client.Close, nil
}

func (p *program) feedRecover(ctx context.Context, store *masterdb.DB, cfg *config.Config, c change, r feedSource) error {
	root, err := cfg.Feed.Verifier()
	if err != nil {
		return err
	}
	source, done, err := r.open(ctx, p, cfg)
	if err != nil {
		return err
	}
	defer done()
	history, err := recovery.Read(ctx, store, root, source)
	if err != nil {
		return judged(err)
	}
	plan, err := recovery.Compare(ctx, store, history, source.String())
	if err != nil {
		return err
	}
	result := recoveryView{planView: p.viewPlan(history, plan)}
	result.again, err = p.enterAgain(ctx, store, "feed recover", plan.Recovery, plan.Enter, c)
	if err != nil {
		return err
	}
	if err := p.Print(result, result.tell); err != nil {
		return err
	}
	switch {
	case result.Applied && result.Request == nil && !plan.Others():
		return nil
	case plan.Lost():
		return cli.Wrongf("the master lacks what it signed: %s", plan)
	}
	return nil
}

// again is what became of rows that were lost.
type again struct {
	ctl.Requested
	Agreed  bool      `json:"agreed"`  // by two persons
	Entered int64     `json:"entered"` // certificates
	Sum     string    `json:"sum"`     // names exactly these certificates
	Limit   ctl.Limit `json:"limit"`
}

// enterAgain files a request for rows, or enters them if two persons have agreed to them.
func (p *program) enterAgain(ctx context.Context, store *masterdb.DB, verb string, r masterdb.Recovery, rows []recovery.Row, c change) (again, error) {
	a := again{Requested: ctl.Requested{Outcome: cli.Outcome{Action: verb, Applied: c.apply}}}
	if len(rows) == 0 {
		return a, nil
	}
	a.Sum = sumOf(r.Sums())
	counted := int64(0)
	for _, row := range rows {
		if row.Effect == masterdb.ImportRevoke {
			counted++
		}
	}
	var err error
	if a.Limit, err = ctl.LimitOf(ctx, store, counted); err != nil {
		return a, err
	}
	if a.Agreed, err = store.RecoveryAgreed(ctx, r); err != nil {
		return a, err
	}
	a.Changed = a.Agreed || !c.apply
	if !c.apply {
		return a, nil
	}
	act, err := c.act()
	if err != nil {
		return a, err
	}
	if !a.Agreed {
		if strings.TrimSpace(c.why) == "" {
			return a, cli.Usagef("--why: a request for approval says why")
		}
		var id int64
		var expires time.Time
		if id, expires, err = store.RequestRecovery(ctx, r, act); err == nil {
			a.Requested = ctl.NewRequested(verb, id, expires)
		}
		return a, err
	}
	if a.Limit.Refused != nil { // else it would break off in its midst
		return a, a.Limit.Refused
	}
	for _, b := range r.Batches {
		n, err := store.Recover(ctx, b, act)
		if err != nil {
			return a, err
		}
		a.Entered += n
	}
	return a, nil
}

func (a again) tell(t *cli.Table) {
	switch {
	case a.Sum == "":
		return
	case a.Request != nil:
		t.Line(fmt.Sprintf("Request %d is filed; nothing has changed yet.", *a.Request))
		t.Line(fmt.Sprintf("Another operator compares the sum and runs ocspctl approve %d --apply (until %s);", *a.Request, *a.ExpiresAt))
		t.Line("then run this once more.")
	case a.Applied:
		t.Line(fmt.Sprintf("Done: %d entered.", a.Entered))
	case a.Agreed:
		t.Line("Two persons have agreed: --apply enters them.")
	default:
		t.Line("Nothing was done: this is the plan. --apply files a request for a second person.")
	}
	if a.Limit.Refused != nil && a.Request == nil {
		t.Line(a.Limit.Refused.Error())
	}
}
