package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ocspfleet/db/sitedb"
	"ocspfleet/ops/config"
	"ocspfleet/sync/feed"

	"golang.org/x/mod/sumdb/note"
)

// forkEvery is how often the evidence is read.
const forkEvery = 2 * time.Second

// forkWatch knows the contradictions of the feed that this site's ocspsyncd has found, that
// count by the newest key set and that are not settled. Safe for concurrent use; a nil one has
// none.
type forkWatch struct {
	store *sitedb.DB
	root  note.Verifier
	stops bool // good and unknown are not answered while there is one
	log   *slog.Logger

	mu    sync.Mutex // guards forks
	forks []string
}

// forksOf returns nil where no root is pinned: then none can be verified.
func forksOf(f config.OcspdFeed, store *sitedb.DB, t *trusted, log *slog.Logger) *forkWatch {
	if t == nil {
		return nil
	}
	return &forkWatch{store: store, root: t.root, stops: f.OnFork == config.ForkStopGood, log: log}
}

// Run reads the evidence until ctx ends; it returns nil then. While the database is away the
// last result counts.
func (w *forkWatch) Run(ctx context.Context) error {
	if w == nil {
		<-ctx.Done()
		return nil
	}
	return repeat(ctx, forkEvery, w.check)
}

func (w *forkWatch) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	found, err := feed.SiteForks(ctx, w.store, w.root)
	if err != nil {
		return // the copy's follower reports that the database is away
	}
	var forks []string
	for _, f := range found {
		forks = append(forks, fmt.Sprintf("%s from %s at %s", f.Why, f.From, f.At.Format(time.RFC3339)))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(forks) > len(w.forks) {
		w.log.ErrorContext(ctx, "feed is forked: a key of the master was stolen, or two masters publish", slog.Any("forks", forks))
	}
	w.forks = forks
}

// Forks returns the contradictions, for /readyz.
func (w *forkWatch) Forks() []string {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.forks
}

// Doubt is a reason not to trust the copy, if on_fork is stop_good.
func (w *forkWatch) Doubt() string {
	if forks := w.Forks(); len(forks) > 0 && w.stops {
		return fmt.Sprintf("feed: %d forks (feed.on_fork is %s): %s", len(forks), config.ForkStopGood, forks[0])
	}
	return ""
}
