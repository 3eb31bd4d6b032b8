package keyset

import (
	"context"
	"fmt"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/doctor"
	"ocspfleet/sync/feed"
)

// Forks returns the contradictions that sites have reported, checked by the pinned root's newest
// key set; it leaves out those that a ban has ended.
func Forks(ctx context.Context, store *masterdb.DB, cfg *settings.Settings) ([]doctor.Fork, error) {
	root, err := cfg.Feed.Verifier()
	if err != nil {
		return nil, err
	}
	judged, err := feed.MasterForks(ctx, store, root)
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

// ForkRecord returns a fork for programs: the site found it; proven says that keys of this master
// signed both histories.
func ForkRecord(f doctor.Fork) cli.Record {
	return cli.Record{cli.F("id", "", f.ID), cli.F("at", "", f.At), cli.F("site", "", f.From), cli.F("why", "", f.Why), cli.F("proven", "", f.Proven)}
}

// ForkText returns a fork for people.
func ForkText(f doctor.Fork) string {
	if f.Proven {
		return fmt.Sprintf("FORK %d: keys of this master signed two histories; site %s found at %s: %s", f.ID, f.From, cli.Stamp(f.At), f.Why)
	}
	return fmt.Sprintf("warning: fork %d: site %s says that it found at %s: %s; nothing proves it", f.ID, f.From, cli.Stamp(f.At), f.Why)
}
