package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
	"ocspfleet/sync/pull"

	"golang.org/x/mod/sumdb/note"
)

// lookupServer answers the sites' questions for single serials, if there is a key for it.
func (w master) lookupServer(root note.Verifier, keys *feed.KeySet) (*publish.LookupServer, error) {
	if w.cfg.Feed.AnswerKeyFile == "" {
		return nil, nil
	}
	key, err := feed.LoadKey(w.cfg.Feed.AnswerKeyFile, root.Name())
	if err != nil {
		return nil, err
	}
	return publish.NewLookupServer(publish.LookupServerConfig{Store: w.store, Key: key, Keys: keys, Root: root, Metrics: publish.NewLookupServerMetrics(w.registry), Log: w.env.Log}), nil
}

// Questions of one peer passed to the master: per second, and at once.
const peerRate, peerBurst = 2, 5

// relayLookup passes peers' questions for single serials to the master.
func (w wiring) relayLookup(proxy *pull.LookupProxy) *publish.LookupServer {
	return publish.NewLookupServer(publish.LookupServerConfig{Ask: proxy.Relay, Rate: peerRate, Burst: peerBurst, Metrics: publish.NewLookupServerMetrics(w.registry), Log: w.env.Log})
}

// lookupProxy asks the sources for single serials.
func (w site) lookupProxy(root note.Verifier, sources []*feedhttp.Client) *pull.LookupProxy {
	return pull.NewLookupProxy(pull.LookupProxyConfig{
		Store: w.store, Origin: root.Name(), Root: root, Sources: sources, Metrics: pull.NewLookupProxyMetrics(w.registry), Log: w.env.Log,
	})
}

// askSocket lets this site's ocspd ask, if configured.
func (w wiring) askSocket(ctx context.Context, proxy *pull.LookupProxy) error {
	path := w.cfg.Feed.AskSocket
	if path == "" || w.env.CheckOnly {
		return nil
	}
	listener, err := listenSocket(ctx, path)
	if err != nil {
		return err
	}
	w.plan.AddServer("ask", &http.Server{
		Handler: proxy, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(w.env.Log.Handler(), slog.LevelDebug),
	}, listener)
	return nil
}

// listenSocket listens at a path, for this user and group. It removes the socket of a killed
// process, but not that of a live one.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if other, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("listening on %s: another ocspsyncd listens there", path), other.Close())
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("listening on %s: something else is there: choose another feed.ask_socket", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listening on %s: %w", path, err)
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("listening on %s: %w", path, err), listener.Close())
	}
	return listener, nil
}
