package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/doctor"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/publish"

	"github.com/spf13/cobra"
)

// masterForks are the contradictions that sites have handed in, as the pinned root's
// newest key set judges them; those that a ban has ended are left out.
func masterForks(ctx context.Context, store *masterdb.DB, cfg *config.Config) ([]doctor.Fork, error) {
	root, err := cfg.Feed.Verifier()
	if err != nil {
		return nil, err
	}
	judged, err := publish.MasterForks(ctx, store.Reader, root)
	if err != nil {
		return nil, err
	}
	var forks []doctor.Fork
	for _, f := range judged {
		if f.Result != feed.ForkOver {
			forks = append(forks, doctor.Fork{Fork: f.Fork, Proven: f.Result == feed.ForkProven})
		}
	}
	return forks, nil
}

// forkView is a contradiction of the feed as fleet status shows it.
type forkView struct {
	ID     int64  `json:"id"`
	At     string `json:"at"`
	Site   string `json:"site"` // that found it
	Why    string `json:"why"`
	Proven bool   `json:"proven"` // keys of this master signed both
}

func viewFork(f doctor.Fork) forkView {
	return forkView{f.ID, cli.Stamp(f.At), f.From, f.Why, f.Proven}
}

func (v forkView) text() string {
	if v.Proven {
		return fmt.Sprintf("FORK %d: keys of this master signed two histories; site %s found at %s: %s", v.ID, v.Site, v.At, v.Why)
	}
	return fmt.Sprintf("warning: fork %d: site %s says that it found at %s: %s; nothing proves it", v.ID, v.Site, v.At, v.Why)
}

func (p *program) approvalForkCommand() *cobra.Command {
	var c change
	var forks []int64
	cmd := p.Command("fork", "ask a second person to agree that forks of the feed were looked into", `
		ocspctl approval request fork --why 'ocspsyncd ran at the old master, too; it is switched off' --apply
		ocspctl approval request fork --fork 3 --fork 4 --why 'site-b was restored from a copy' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.approvalFork(ctx, store, cfg, c, forks) })
		})
	cmd.Long = `A fork is two statements of the feed that cannot both be true: a key of the master
was stolen, or two masters publish (docs/feed-keys.md). fleet status, doctor and the
master's ocspsyncd fail while one is proven. Once two persons have agreed, it is
settled: the sites that handed it in learn of it within a minute. A key set that bans
the key needs none of this.`
	cmd.Flags().Int64SliceVar(&forks, "fork", nil, "the `NUMBER` of a fork (fleet status); may stand several times (default: all that are open)")
	c.flags(cmd)
	return cmd
}

func (p *program) approvalFork(ctx context.Context, store *masterdb.DB, cfg *config.Config, c change, numbers []int64) error {
	if c.apply && strings.TrimSpace(c.why) == "" {
		return cli.Usagef("--why: a request for approval says why")
	}
	act, err := c.act()
	if err != nil {
		return err
	}
	forks, err := masterForks(ctx, store, cfg)
	if err != nil {
		return err
	}
	var id int64
	var expires time.Time
	if c.apply {
		if id, expires, err = store.RequestForkSettle(ctx, numbers, act); err != nil {
			return err
		}
	}
	views := []forkView{}
	for _, f := range forks {
		if len(numbers) == 0 || slices.Contains(numbers, f.ID) {
			views = append(views, viewFork(f))
		}
	}
	result := struct {
		ctl.Requested
		Forks []forkView `json:"forks"`
	}{ctl.NewRequested("approval request fork", id, expires), views}
	return p.Print(result, func(t *cli.Table) {
		for _, v := range views {
			t.Row("fork "+strconv.FormatInt(v.ID, 10), v.text())
		}
		result.Requested.Tell(t)
	})
}
