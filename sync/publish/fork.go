package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"

	"golang.org/x/mod/sumdb/note"
)

// ForkReports takes the evidence of sites at the master, and reports trouble while a proven fork
// is open. Run is called once; the rest is safe for concurrent use.
type ForkReports struct {
	store   *publisherdb.DB
	root    note.Verifier
	log     *slog.Logger
	trouble health.Trouble
	lost    health.Trouble
}

// forksEvery is how often the evidence of sites is checked again.
const forksEvery = 2 * time.Second

// NewForkReports uses a login in ocsp_publisher.
func NewForkReports(store *publisherdb.DB, root note.Verifier, log *slog.Logger) *ForkReports {
	return &ForkReports{store: store, root: root, log: log}
}

// Trouble says which forks are proven and open; empty: none is.
func (d *ForkReports) Trouble() string { return d.trouble.Get() }

// Lost says what sites have that was signed for this master's epoch, by a key that counts now, and
// that the master lacks; empty: nothing. To sign in that state would start a second history.
func (d *ForkReports) Lost() string { return d.lost.Get() }

// Report keeps the finding of a site, and says whether two persons have settled it. A report that
// the master is behind counts while the master is behind: a site may get news from a peer first.
func (d *ForkReports) Report(ctx context.Context, site string, r feed.ForkReport) (settled bool, err error) {
	if r.Why == feed.WhyBehind {
		set, _, err := feed.StoredKeySet(ctx, d.store, d.root.Name(), d.root)
		if err != nil {
			return false, err
		}
		result, err := set.CheckFork(ctx, d.store, d.root, db.Fork{Ours: r.Ours, Theirs: r.Theirs})
		if err != nil || result != feed.ForkProven {
			return true, err
		}
	}
	return d.store.ReportFork(ctx, site, r.Why, r.Ours, r.Theirs)
}

// Run checks until ctx ends; it returns nil then.
func (d *ForkReports) Run(ctx context.Context) error {
	failed := func(text string) { d.log.ErrorContext(ctx, "feed is forked", slog.String("what", text)) }
	return health.Every{Pause: health.Always(forksEvery), Trouble: &d.trouble, Failed: failed}.Run(ctx, func(ctx context.Context) error {
		call, cancel := context.WithTimeout(ctx, feedhttp.CallTimeout)
		defer cancel()
		text, lost, err := d.check(call)
		if err != nil { // other checks report a database that is away; the last result counts
			text, lost = d.trouble.Get(), d.lost.Get()
		}
		d.lost.Set(lost)
		if text == "" {
			return nil
		}
		return errors.New(text)
	})
}

func (d *ForkReports) check(ctx context.Context) (text, lost string, err error) {
	forks, err := feed.MasterForks(ctx, d.store, d.root)
	if err != nil {
		return "", "", err
	}
	for _, f := range forks {
		if f.Result != feed.ForkProven {
			continue
		}
		if text == "" {
			text = fmt.Sprintf("a key of this master signed two histories: site %s showed %s (fork %d); a key was stolen, or two masters publish: docs/feed-keys.md", f.From, f.Why, f.ID)
		}
		if f.Why == feed.WhyBehind && lost == "" {
			lost = fmt.Sprintf("site %s has what this master signed and lost (fork %d): it was restored from an old copy, or promoted too early; ocspctl fleet lost says what and how it comes back, then begin a new epoch (docs/operations.md), or ban the key if it was stolen", f.From, f.ID)
		}
	}
	return text, lost, nil
}
