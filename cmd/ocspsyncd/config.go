package main

import (
	"fmt"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/db"
	"ocspfleet/db/tables"
	"ocspfleet/ops/config"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/logical"
)

// settings is the configuration file, and the values made from it.
type settings struct {
	config.Ocspsyncd `yaml:",inline"`
}

// Check adds the checks that need the packages which use the keys.
func (c *settings) Check(report func(key, problem string)) {
	c.Ocspsyncd.Check(report)
	if c.Role == config.RoleSite && c.Sync == config.SyncLogical && db.CheckSite(c.Site) == nil {
		if err := logical.CheckSite(c.Site); err != nil {
			report("site", err.Error())
		}
	}
	boot.CheckListeners(report, c.Admin, boot.Listener{Key: "feed.listen", Address: c.Feed.Listen})
	for i, s := range c.Feed.Sources {
		if _, err := feedhttp.ParsePin(s.Pin); err != nil {
			report(fmt.Sprintf("feed.sources[%d].pin", i), err.Error())
		}
	}
	for i, p := range c.Feed.Peers {
		if _, err := feedhttp.ParsePin(p.Pin); err != nil {
			report(fmt.Sprintf("feed.peers[%d].pin", i), err.Error())
		}
	}
}

func databaseOf(d config.Database) tables.Config {
	// The watchdog and the sealer keep three; the rest serve heartbeat and feed.
	return tables.Config{DSN: d.DSN, PasswordFile: d.PasswordFile, Application: "ocspsyncd", MaxConns: 8}
}

// peersOf returns the names of the peers that may fetch from here, by pin.
func peersOf(f config.OcspsyncdFeed) (map[feedhttp.Pin]string, error) {
	sites := map[feedhttp.Pin]string{}
	for _, p := range f.Peers {
		pin, err := feedhttp.ParsePin(p.Pin)
		if err != nil {
			return nil, err
		}
		sites[pin] = p.Name
	}
	return sites, nil
}
