package pull

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"ocspfleet/sync/feed"
)

// reportEvery is how often a site whose evidence of a fork is open hands it to the
// master, and learns whether it is settled there.
const reportEvery = 30 * time.Second

// reports hands what contradicts each other to the master, until ctx ends. Only its
// answer settles a fork here; a ban does without.
func (p *Puller) reports(ctx context.Context) {
	at := slices.IndexFunc(p.cfg.Sources, (*feed.Client).Master)
	if at < 0 {
		return
	}
	master := p.cfg.Sources[at]
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		if err := p.report(ctx, master); err != nil && ctx.Err() == nil {
			p.cfg.Log.WarnContext(ctx, "forks cannot be reported to the master", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.forked:
		}
	}
}

// report hands in all that count now.
func (p *Puller) report(ctx context.Context, master *feed.Client) error {
	ctx, cancel := context.WithTimeout(ctx, reportEvery)
	defer cancel()
	if r := p.behind.Swap(nil); r != nil {
		if _, err := master.Report(ctx, *r); err != nil {
			return err
		}
	}
	forks, err := feed.SiteForks(ctx, p.cfg.Store, p.cfg.Root)
	if err != nil {
		return err
	}
	for _, f := range forks {
		settled, err := master.Report(ctx, feed.ForkReport{Why: f.Why, Ours: f.Ours, Theirs: f.Theirs})
		if err != nil {
			return err
		}
		if settled {
			p.cfg.Log.InfoContext(ctx, "fork is settled at the master", slog.Int64("fork", f.ID))
			if err := p.cfg.Store.SettleFork(ctx, f.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// showBehind has the master shown what it signed and does not show any more. It is not
// kept here: while the master is behind, each look finds it again.
func (p *Puller) showBehind(ctx context.Context, theirs []byte) {
	ours, err := p.cfg.Store.FeedNote(ctx)
	if err == nil && p.admits(ours.Note) {
		p.behind.Store(&feed.ForkReport{Why: feed.WhyBehind, Ours: ours.Note, Theirs: theirs})
		p.wakeReport()
	}
}

// wakeReport has the evidence handed in at once.
func (p *Puller) wakeReport() {
	select {
	case p.forked <- struct{}{}:
	default: // it is told already
	}
}
