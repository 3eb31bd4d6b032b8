package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/ops/config"
	"ocspfleet/ops/doctor"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"

	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/sumdb/note"
)

// ocspsyncdConfig is the default path of ocspsyncd's configuration.
const ocspsyncdConfig = "/etc/ocspfleet/ocspsyncd.yaml"

// peekSync reads ocspsyncd's configuration without checking it: ocspsyncd does that (config check
// --daemon ocspsyncd).
func peekSync(file, role string) (config.Ocspsyncd, error) {
	place := config.DefaultOcspsyncd()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, &place)
	}
	if err != nil {
		return config.Ocspsyncd{}, fmt.Errorf("reading ocspsyncd's configuration: %w", err)
	}
	if role == config.RoleMaster {
		if place.Role != role {
			err = fmt.Errorf("reading ocspsyncd's configuration: %s is no master's: use --ocspsyncd-config", file)
		}
		return place, err
	}
	if place.Role != config.RoleSite || place.Sync != config.SyncLogical && place.Sync != config.SyncFeed {
		return config.Ocspsyncd{}, fmt.Errorf("reading ocspsyncd's configuration: %s is no site's, or has no sync that is known: ocspctl config check --daemon ocspsyncd %s", file, file)
	}
	return place, nil
}

// feedOf reads for doctor what ocspsyncd must follow, and asks its sources.
func feedOf(ctx context.Context, p *cli.Program, file string, store *sitedb.DB) (found *doctor.Feed, missing string, err error) {
	place, err := peekSync(file, config.RoleSite)
	switch {
	case errors.Is(err, fs.ErrNotExist) && file == ocspsyncdConfig:
		return nil, file + " is not there", nil
	case err != nil:
		return nil, "", err
	case place.Feed.TLSKeyFile == "" && len(place.Feed.Sources) == 0: // the root alone: there is no feed
		return nil, "", nil
	}
	c := place.Feed
	found = &doctor.Feed{
		Native: place.Sync == config.SyncLogical, Admin: place.Admin, StaleAfter: c.StaleAfter, PreferPeers: c.PreferPeers, Listens: c.Listen != "", Peers: len(c.Peers),
	}
	if found.StaleAfter == 0 {
		found.StaleAfter = 3 * time.Minute
	}
	root, err := config.OcspctlFeed{Root: c.Root}.Verifier()
	if err != nil {
		found.Faults = append(found.Faults, err.Error())
	}
	identity, err := feedhttp.LoadIdentity(c.TLSKeyFile)
	if err != nil {
		found.Faults = append(found.Faults, err.Error())
	}
	if len(found.Faults) > 0 {
		return found, "", nil
	}
	found.Pin = identity.Pin.String()
	var set *feed.KeySet
	found.Keys, set = keptKeys(ctx, store.DB, root)
	found.Forks, found.ForksErr = feed.SiteForks(ctx, store, root)
	found.Sources = make([]doctor.FeedSource, len(c.Sources))
	var asking sync.WaitGroup
	for i, s := range c.Sources {
		asking.Go(func() { found.Sources[i] = askSource(ctx, p, s, identity, root, set) })
	}
	asking.Wait()
	return found, "", nil
}

// publisherOf reads for doctor at the master what ocspsyncd must sign, and the key set in force.
func publisherOf(ctx context.Context, file string, store *masterdb.DB, cfg *settings.Settings) (found *doctor.Publisher, missing string, err error) {
	place, err := peekSync(file, config.RoleMaster)
	switch {
	case errors.Is(err, fs.ErrNotExist) && file == ocspsyncdConfig:
		return nil, file + " is not there", nil
	case err != nil:
		return nil, "", err
	}
	found = &doctor.Publisher{Admin: place.Admin, Signs: place.Feed.KeyFile != ""}
	part := config.OcspctlFeed{Root: cmp.Or(place.Feed.Root, cfg.Feed.Root)}
	if part.Root == "" {
		return found, "", nil
	}
	found.Root = true
	root, err := part.Verifier()
	if err != nil {
		found.Keys.Err = err
		return found, "", nil
	}
	var set *feed.KeySet
	if found.Keys, set = keptKeys(ctx, store.DB, root); set != nil {
		found.Epoch = set.Epoch
	}
	return found, "", nil
}

// keptKeys opens the newest key set that is stored here.
func keptKeys(ctx context.Context, store *tables.DB, root note.Verifier) (doctor.FeedKeys, *feed.KeySet) {
	set, _, err := feed.StoredKeySet(ctx, store, root.Name(), root)
	if errors.Is(err, db.ErrNotFound) {
		return doctor.FeedKeys{}, nil
	}
	if err != nil {
		return doctor.FeedKeys{Err: err}, nil
	}
	keys := doctor.FeedKeys{Number: set.Number}
	for _, k := range set.Keys {
		if k.Until.After(keys.Until) {
			keys.Until = k.Until
		}
	}
	return keys, set
}

// sourceTimeout bounds the answer of one source.
const sourceTimeout = 5 * time.Second

// askSource asks a source as ocspsyncd would, for its newest checkpoint, and the
// master for its clock.
func askSource(ctx context.Context, p *cli.Program, s config.Source, identity *feedhttp.Identity, root note.Verifier, set *feed.KeySet) doctor.FeedSource {
	seen := doctor.FeedSource{URL: s.URL, Master: s.Master}
	pin, err := feedhttp.ParsePin(s.Pin)
	if err != nil {
		seen.Unreachable = err
		return seen
	}
	client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: s.URL, Pin: pin, Master: s.Master, Identity: identity, Stall: sourceTimeout})
	if err != nil {
		seen.Unreachable = err
		return seen
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	signed, _, err := client.Checkpoint(ctx, 0, "", 0)
	switch {
	case errors.Is(err, feedhttp.ErrAccessDenied):
		seen.AccessDenied = true
	case errors.Is(err, feedhttp.ErrOtherKey):
		seen.OtherKey = true
	case errors.Is(err, feedhttp.ErrPin):
		seen.Unknown = true
	case err != nil:
		seen.Unreachable = err
	}
	if err != nil {
		return seen
	}
	// The source has its newest set: the one here may be older.
	if theirs, err := client.Keys(ctx); err == nil {
		if opened, err := feed.OpenKeySet(theirs, root.Name(), root); err != nil {
			seen.Forged = err
			return seen
		} else if set == nil || opened.Number > set.Number {
			set = opened
		}
	}
	if set == nil {
		seen.Forged = errors.New("it shows no key set")
		return seen
	}
	c, err := set.OpenCheckpoint(signed)
	if err != nil {
		seen.Forged = err
		return seen
	}
	seen.Position, seen.AsOf = c.Position, c.AsOf
	if s.Master {
		before := p.Now()
		if clock, err := client.Clock(ctx); err == nil {
			seen.Skew, seen.HasSkew = before.Add(p.Now().Sub(before)/2).Sub(clock).Round(time.Millisecond), true
		}
	}
	return seen
}
