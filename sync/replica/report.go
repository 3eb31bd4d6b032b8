package replica

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"

	"golang.org/x/mod/sumdb/note"
)

// reportEvery is how often a site with open evidence of a fork sends it to the master, and learns
// whether it is settled there.
const reportEvery = 30 * time.Second

// Reporter sends the contradictions that a site has found to the master. Only the master's answer
// settles one here; a ban needs no answer. Run is called once, the rest is safe for concurrent
// use.
type Reporter struct {
	store  *sitedb.DB
	root   note.Verifier
	master *feedhttp.Client // nil: no source is the master
	log    *slog.Logger
	forked chan struct{} // there is new evidence
	behind atomic.Pointer[feed.ForkReport]
}

// NewReporter returns a reporter to the source that is the master, if there is one.
func NewReporter(store *sitedb.DB, root note.Verifier, sources []*feedhttp.Client, log *slog.Logger) *Reporter {
	r := &Reporter{store: store, root: root, log: log, forked: make(chan struct{}, 1)}
	if at := slices.IndexFunc(sources, (*feedhttp.Client).Master); at >= 0 {
		r.master = sources[at]
	}
	return r
}

// Run reports until ctx ends; it returns nil then.
func (r *Reporter) Run(ctx context.Context) error {
	if r.master == nil {
		<-ctx.Done()
		return nil
	}
	failed := func(text string) {
		r.log.WarnContext(ctx, "forks cannot be reported to the master", slog.String("error", text))
	}
	return health.Every{Pause: health.Always(reportEvery), Wake: r.forked, Failed: failed}.Run(ctx, r.report)
}

// report sends all contradictions that count now.
func (r *Reporter) report(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reportEvery)
	defer cancel()
	if b := r.behind.Swap(nil); b != nil {
		if _, err := r.master.Report(ctx, *b); err != nil {
			return err
		}
	}
	forks, err := feed.SiteForks(ctx, r.store, r.root)
	if err != nil {
		return err
	}
	for _, f := range forks {
		settled, err := r.master.Report(ctx, feed.ForkReport{Why: f.Why, Ours: f.Ours, Theirs: f.Theirs})
		if err != nil {
			return err
		}
		if settled {
			r.log.InfoContext(ctx, "fork is settled at the master", slog.Int64("fork", f.ID))
			if err := r.store.SettleFork(ctx, f.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// Behind sends the master what it signed and no longer shows. The site does not store it: while
// the master is behind, each step finds it again.
func (r *Reporter) Behind(ours, theirs []byte) {
	r.behind.Store(&feed.ForkReport{Why: feed.WhyBehind, Ours: ours, Theirs: theirs})
	r.Wake()
}

// Wake sends the evidence at once.
func (r *Reporter) Wake() {
	select {
	case r.forked <- struct{}{}:
	default: // it is awake already
	}
}
