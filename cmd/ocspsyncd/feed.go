package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/front"
	"ocspfleet/db"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
	"ocspfleet/sync/pull"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"
)

// wiring is what every part of the daemon needs to start.
type wiring struct {
	cfg      settings
	env      boot.Env
	plan     *boot.Plan
	registry *prometheus.Registry
}

// defaultConnections of the feed's listener.
const defaultConnections = 2048

// retryPause is the pause after a source failed; it doubles up to 16 s, so a site sees at the
// latest then that the master is back.
const retryPause = 250 * time.Millisecond

// publish adds sealing and serving to the master's plan, and returns the function that reports
// their faults.
func (w master) publish(ctx context.Context) (func() []string, error) {
	root, err := w.cfg.Feed.Verifier()
	if err != nil {
		return nil, fmt.Errorf("feed.root %w", err)
	}
	key, next, err := w.feedKeys(root)
	if err != nil {
		return nil, err
	}
	identity, err := feedhttp.LoadIdentity(w.cfg.Feed.TLSKeyFile)
	if err != nil {
		return nil, err
	}
	keys, err := w.keySet(ctx, root)
	if errors.Is(err, db.ErrNotFound) {
		return nil, fmt.Errorf("the master has no key set: have the feed root sign one (ocspctl feed keys sign) and bring it in (ocspctl feed keys publish)")
	}
	if err != nil {
		return nil, err
	}
	latest, access := &feedhttp.Latest{}, &feedhttp.AccessList{}
	forks := publish.NewForkReports(w.store, root, w.env.Log)
	sealer, err := publish.NewSealer(publish.SealerConfig{
		Store: w.store, Key: key, Next: next, Keys: keys, Root: root, State: w.cfg.Feed.State, Lost: forks.Lost, Latest: latest, Confirm: w.cfg.Feed.Confirm, Log: w.env.Log, Metrics: publish.NewSealerMetrics(w.registry),
	})
	if err != nil {
		return nil, err
	}
	snapshotter := publish.NewSnapshotter(publish.SnapshotterConfig{Store: w.store, Key: key, Next: next, Keys: keys, Root: root, Log: w.env.Log})
	tracker := publish.NewClientTracker(w.store, access, w.env.Log)
	lookup, err := w.lookupServer(root, keys)
	if err != nil {
		return nil, err
	}
	w.plan.AddWorker("sealer", sealer.Run)
	w.plan.AddWorker("snapshotter", snapshotter.Run)
	w.plan.AddWorker("client tracker", tracker.Run)
	w.plan.AddWorker("forks", forks.Run)
	server := feedhttp.ServerConfig{Store: w.store.DB, Root: root, Latest: latest, Forks: forks, Clock: w.store.Clock}
	if lookup != nil {
		server.Lookup = lookup
	}
	if err := w.serve(ctx, identity, access, server, tracker.Watch); err != nil {
		return nil, err
	}
	return func() []string {
		return present(sealer.Trouble(), snapshotter.Trouble(), lookup.Trouble(), forks.Trouble())
	}, nil
}

// keySet returns the key set in force. The first set of all is accepted here: before the feed
// is published no other part would do it. A check of the configuration accepts nothing, and
// reads the sets that staff published.
func (w master) keySet(ctx context.Context, root note.Verifier) (*feed.KeySet, error) {
	if w.env.CheckOnly {
		notes, err := w.store.FeedKeySets(ctx)
		if err != nil {
			return nil, err
		}
		offers, err := w.store.KeySetOffers(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range offers {
			notes = append(notes, o.Note)
		}
		keys, _, err := feed.NewestKeySet(notes, root.Name(), root)
		return keys, err
	}
	if err := publish.TakeOffers(ctx, w.store, root.Name(), root, w.env.Log); err != nil {
		return nil, err
	}
	keys, _, err := feed.StoredKeySet(ctx, w.store, root.Name(), root)
	return keys, err
}

// offers checks the key sets that staff publishes, also in a fleet without a feed.
func (w master) offers() error {
	root, err := w.cfg.Feed.Verifier()
	if err != nil {
		return fmt.Errorf("feed.root %w", err)
	}
	w.plan.AddWorker("key sets", func(ctx context.Context) error { return publish.RunOffers(ctx, w.store, root, w.env.Log) })
	return nil
}

// feedKeys returns the key that signs and, if there is one, the next key.
func (w wiring) feedKeys(root note.Verifier) (key, next *feed.Key, err error) {
	if key, err = feed.LoadKey(w.cfg.Feed.KeyFile, root.Name()); err != nil {
		return nil, nil, err
	}
	if w.cfg.Feed.NextKeyFile != "" {
		next, err = feed.LoadKey(w.cfg.Feed.NextKeyFile, root.Name())
	}
	return key, next, err
}

// follow adds fetching, and relaying if configured, to a site's plan.
func (w site) follow(ctx context.Context) (*pull.Puller, error) {
	root, err := w.cfg.Feed.Verifier()
	if err != nil {
		return nil, fmt.Errorf("feed.root %w", err)
	}
	identity, sources, err := w.sources()
	if err != nil {
		return nil, err
	}
	latest := &feedhttp.Latest{}
	puller, err := pull.New(pull.Config{
		Store: w.store, Origin: root.Name(), Root: root, Sources: sources, Latest: latest,
		StaleAfter: w.cfg.Feed.StaleAfter, Recount: w.cfg.Recount, Backoff: retryPause, PreferPeers: w.cfg.Feed.PreferPeers, Metrics: pull.NewMetrics(w.registry), Log: w.env.Log,
	})
	if err != nil {
		return nil, err
	}
	w.plan.AddWorker("feed", puller.Run)
	trimmer := pull.NewTrimmer(pull.TrimmerConfig{
		Store: w.store, Relays: w.cfg.Feed.Listen != "", Origin: root.Name(), Root: root, Sources: sources, PreferPeers: w.cfg.Feed.PreferPeers, Log: w.env.Log,
	})
	w.plan.AddWorker("trim", trimmer.Run)
	return puller, w.relay(ctx, identity, sources, feedhttp.ServerConfig{Store: w.store.DB, Root: root, Latest: latest})
}

// sources returns this site's own key, and a client for each source.
func (w wiring) sources() (*feedhttp.Identity, []*feedhttp.Client, error) {
	identity, err := feedhttp.LoadIdentity(w.cfg.Feed.TLSKeyFile)
	if err != nil {
		return nil, nil, err
	}
	var sources []*feedhttp.Client
	for _, s := range w.cfg.Feed.Sources {
		pin, err := feedhttp.ParsePin(s.Pin)
		if err != nil {
			return nil, nil, err
		}
		client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: s.URL, Pin: pin, Master: s.Master, Identity: identity})
		if err != nil {
			return nil, nil, err
		}
		w.plan.AddCloser("feed source", func() error { client.Close(); return nil })
		sources = append(sources, client)
	}
	return identity, sources, nil
}

// relay lets ocspd ask the sources for single serials, and lets peers fetch from here, if
// either is configured.
func (w site) relay(ctx context.Context, identity *feedhttp.Identity, sources []*feedhttp.Client, cfg feedhttp.ServerConfig) error {
	proxy := w.lookupProxy(cfg.Root, sources)
	if err := w.askSocket(ctx, proxy); err != nil || w.cfg.Feed.Listen == "" {
		return err
	}
	peers, err := peersOf(w.cfg.Feed)
	if err != nil {
		return err
	}
	access := &feedhttp.AccessList{}
	w.plan.AddWorker("client tracker", publish.NewRelayClientTracker(w.store.DB, peers, access, w.env.Log).Run)
	cfg.Lookup = w.relayLookup(proxy)
	return w.serve(ctx, identity, access, cfg, func(h http.Handler) http.Handler { return h })
}

// serve adds the feed's listener to the plan.
func (w wiring) serve(ctx context.Context, identity *feedhttp.Identity, access *feedhttp.AccessList, cfg feedhttp.ServerConfig, watch func(http.Handler) http.Handler) error {
	if w.env.CheckOnly {
		return nil
	}
	access.SetOwner(identity.Pin)
	listener, err := boot.Listen(ctx, w.cfg.Feed.Listen)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	cfg.Access, cfg.Public, cfg.Log = access, w.cfg.Feed.Public, w.env.Log
	server := feedhttp.NewServer(cfg).HTTP()
	server.Handler = watch(server.Handler)
	server.TLSConfig = identity.ServerTLS(access)
	// A stop ends long polls at once: the clients have other sources.
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	clients := front.New(front.Config{
		Max: cmp.Or(w.cfg.Feed.MaxConnections, defaultConnections), HalfOpen: front.DefaultHalfOpen,
		Metrics: front.NewMetrics(w.registry, "ocspsyncd_feed"), Log: w.env.Log,
	})
	w.plan.AddServer("feed", server, tls.NewListener(clients.Attach(server, listener), server.TLSConfig))
	return nil
}

// present returns the texts that are not empty.
func present(texts ...string) []string {
	var some []string
	for _, text := range texts {
		if text != "" {
			some = append(some, text)
		}
	}
	return some
}
