package devfleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"ocspfleet/ops/config"
)

// The ways in which a site's rows come, and of a whole fleet.
const (
	syncLogical = "logical"
	syncFeed    = "feed"
	syncMixed   = "mixed"
)

// mode is how the rows of site i come. Mixed: by the feed and by native
// replication in turn.
func (o *Options) mode(i int) string {
	if o.Sync == syncMixed && i%2 == 0 {
		return syncFeed
	}
	if o.Sync == syncMixed {
		return syncLogical
	}
	return o.Sync
}

// hasFeed says whether the master signs a feed.
func (o *Options) hasFeed() bool { return o.Sync != syncLogical }

// origin names the feed of every fleet.
const origin = "ocspfleet.example/status"

// confirm is how often the fleet's idle master signs that nothing is new.
// Production wants 60s; here the copies' age is to be seen at once.
const confirm = heartbeat

// trust is what the parts of a fleet know of each other. Without a feed there are the
// root and the key for corrections alone.
type trust struct {
	root     string   // the root's verifier key
	correct  string   // the file of the second person's key for corrections
	corrects string   // its verifier key
	key      string   // the file of the key that signs
	signer   string   // its verifier key
	answer   string   // the file of the key that signs answers; empty: there is none
	answerer string   // its verifier key
	keys     string   // the file of the key set, once it is signed
	pin      string   // of the master's TLS key
	sites    []string // the pins of the sites' TLS keys
}

// makeFeed makes the keys of the root, at the CA, and of the second person; with a feed
// also those that sign it, and all TLS keys.
func (f *Fleet) makeFeed(ctx context.Context, a *authority) error {
	o := &f.opts
	t := &trust{correct: filepath.Join(o.etc("master"), "approver-correct.key"), keys: filepath.Join(a.dir, "feed-keys.note"), sites: make([]string, o.Sites)}
	if err := os.MkdirAll(o.etc("master"), 0o700); err != nil {
		return fmt.Errorf("making the configuration's folder: %w", err)
	}
	var err error
	if t.root, err = o.feedKey(ctx, feedRootKey(a)); err == nil {
		t.corrects, err = o.feedKey(ctx, t.correct)
	}
	if err != nil {
		return fmt.Errorf("making the root's keys: %w", err)
	}
	f.trust, f.CorrectKey = t, f.Rel(t.correct)
	if !o.hasFeed() {
		return nil
	}
	t.key = filepath.Join(o.etc("master"), "feed.key")
	t.signer, err = o.feedKey(ctx, t.key)
	if err == nil {
		t.pin, err = o.pin(ctx, "master")
	}
	if err == nil && o.ReadThrough {
		t.answer = filepath.Join(o.etc("master"), "feed-answer.key")
		t.answerer, err = o.feedKey(ctx, t.answer)
	}
	for i := range t.sites {
		if err == nil {
			t.sites[i], err = o.pin(ctx, siteName(i))
		}
	}
	if err != nil {
		return fmt.Errorf("making the feed's keys: %w", err)
	}
	f.Master.FeedURL = feedURL(Ports(o.BasePort).masterFeed())
	return nil
}

func feedRootKey(a *authority) string { return filepath.Join(a.dir, "feed-root.key") }

// ctlJSON runs ocspctl without a configuration and reads what it prints.
func (o *Options) ctlJSON(ctx context.Context, into any, args ...string) error {
	out, err := run(ctx, nil, filepath.Join(o.Bin, "ocspctl"), append(args, "--output", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("reading what ocspctl %s printed: %w", args[0], err)
	}
	return nil
}

func (o *Options) feedKey(ctx context.Context, file string) (verifier string, err error) {
	var made struct{ Verifier string }
	err = o.ctlJSON(ctx, &made, "feed", "key", "generate", "--origin", origin, "--out", file)
	return made.Verifier, err
}

func (o *Options) pin(ctx context.Context, owner string) (string, error) {
	if err := os.MkdirAll(o.etc(owner), 0o700); err != nil {
		return "", fmt.Errorf("making the configuration's folder: %w", err)
	}
	var made struct{ Pin string }
	err := o.ctlJSON(ctx, &made, "key", "pin", "--file", o.tlsKey(owner))
	return made.Pin, err
}

func (o *Options) tlsKey(owner string) string { return filepath.Join(o.etc(owner), "feed-tls.key") }

// publishKeys has the root sign who signs, and brings it to the master.
func (f *Fleet) publishKeys(ctx context.Context, a *authority, config string) error {
	o := &f.opts
	var status struct{ Head struct{ Epoch int64 } }
	if err := o.ctlJSON(ctx, &status, "--config", config, "db", "status"); err != nil {
		return err
	}
	sign := []string{
		"feed", "keys", "sign", "--root-key", feedRootKey(a), "--number", "1",
		"--epoch", strconv.FormatInt(status.Head.Epoch, 10), "--correct", f.trust.corrects, "--out", f.trust.keys,
	}
	if f.trust.signer != "" {
		sign = append(sign, "--key", f.trust.signer)
	}
	if f.trust.answerer != "" {
		sign = append(sign, "--answer", f.trust.answerer)
	}
	_, err := o.ctl(ctx, config, sign...)
	if err == nil {
		_, err = o.ctl(ctx, config, "feed", "keys", "publish", f.trust.keys, "--apply")
	}
	if err != nil {
		return fmt.Errorf("naming the feed's keys: %w", err)
	}
	return nil
}

func feedURL(port int) string { return "https://" + address(port) }

// sources are whom site i asks, as numbers of sites; -1 is the master. The third
// one of a mixed fleet knows the first alone.
func (o *Options) sources(i int) []int {
	switch {
	case o.Sync == syncMixed && i == 2:
		return []int{0}
	case o.Sites == 1:
		return []int{-1}
	}
	peer := (i + 1) % o.Sites
	if o.Sync == syncMixed && peer == 2 {
		peer = 0
	}
	if peer == i {
		peer = 1
	}
	return []int{-1, peer}
}

// siteFeed is the feed's part of a site's ocspsyncd.yaml; without a feed the root alone.
func (f *Fleet) siteFeed(i int) config.OcspsyncdFeed {
	o, ports := &f.opts, Ports(f.opts.BasePort)
	c := config.OcspsyncdFeed{Root: f.trust.root}
	if !o.hasFeed() {
		return c
	}
	c.TLSKeyFile, c.Listen = o.tlsKey(siteName(i)), address(ports.feed(i))
	if o.mode(i) == syncFeed {
		c.StaleAfter = 20 * time.Second // production: three times the master's confirm
		if f.trust.answer != "" {
			c.AskSocket = filepath.Join(o.etc(siteName(i)), "ask.sock")
		}
	}
	for _, n := range o.sources(i) {
		if n < 0 {
			c.Sources = append(c.Sources, config.Source{URL: feedURL(ports.masterFeed()), Pin: f.trust.pin, Master: true})
		} else {
			c.Sources = append(c.Sources, config.Source{URL: feedURL(ports.feed(n)), Pin: f.trust.sites[n]})
		}
	}
	for n := range o.Sites {
		if n != i {
			c.Peers = append(c.Peers, config.Peer{Name: siteName(n), Pin: f.trust.sites[n]})
		}
	}
	return c
}

// staffFeed is the feed's part of an ocspctl.yaml beside it.
func staffFeed(c config.OcspsyncdFeed) config.OcspctlFeed {
	return config.OcspctlFeed{Root: c.Root, TLSKeyFile: c.TLSKeyFile}
}

// RelayURL is where site i (from 0) relays the feed; empty: there is none.
func (f *Fleet) RelayURL(i int) string {
	if !f.opts.hasFeed() {
		return ""
	}
	return feedURL(Ports(f.opts.BasePort).feed(i))
}

// masterFeed is the feed's part of the master's ocspsyncd.yaml; without a feed the root
// alone. The root's key is offline, at the CA; it names the keys that sign.
func (f *Fleet) masterFeed() config.OcspsyncdFeed {
	o := &f.opts
	c := config.OcspsyncdFeed{Root: f.trust.root}
	if !o.hasFeed() {
		return c
	}
	c.KeyFile, c.AnswerKeyFile, c.State, c.TLSKeyFile = f.trust.key, f.trust.answer, filepath.Join(o.etc("master"), "feed-last"), o.tlsKey("master")
	c.Listen, c.Confirm = address(Ports(o.BasePort).masterFeed()), confirm
	return c
}
