package config

import (
	"log/slog"
	"time"

	"ocspfleet/db"
)

// Ocspsyncd is /etc/ocspfleet/ocspsyncd.yaml. Durations are written "5s".
type Ocspsyncd struct {
	// Role is the kind of this machine: master (ocspsyncd confirms the head, so that the sites
	// know how old their copies are) or site (it seeds, watches and repairs the site's copy).
	// Required.
	Role string `yaml:"role,omitempty"`
	// Site is this site's name in the master's roster. Role site only.
	Site string `yaml:"site,omitempty"`
	// Sync is how this site's rows come: logical, by native replication from the
	// master (for the CA's own sites: its login can read the whole master), or feed,
	// by the signed feed. Default logical. Role site only.
	Sync string `yaml:"sync,omitempty"`
	// Database is the local database. The login is a member of ocsp_publisher at
	// the master, of ocsp_sync at a site.
	Database Database `yaml:"database,omitempty"`
	// Master is the master's database, as this site connects to it; the login is a member of
	// ocsp_replica. Role site with sync logical only. Use sslmode=verify-full unless both are
	// on one machine.
	Master Database `yaml:"master,omitempty"`
	// Feed is the signed feed. At a site with sync logical and feed.root set, the signed files
	// also come from the master's database; the rest of feed is then for peers, questions for
	// single serials and the report of a fork.
	Feed OcspsyncdFeed `yaml:"feed,omitempty"`
	// Heartbeat is how often the head is confirmed; every copy is at least that old. Default
	// 5s; at most 5m, else `unknown` could not be answered. Role master only.
	Heartbeat time.Duration `yaml:"heartbeat,omitempty"`
	// Recount is how often the whole copy is recounted against its head. Default 1m. For large
	// copies it is longer, so that recounts take at most a hundredth of the time; SIGHUP
	// recounts now. Role site only.
	Recount time.Duration `yaml:"recount,omitempty"`
	// Admin is the address of /healthz, /readyz and /metrics. Loopback only.
	Admin string `yaml:"admin,omitempty"`
	// LogLevel is debug, info, warn or error. Default info.
	LogLevel slog.Level `yaml:"log_level,omitempty"`
}

// The values of role.
const RoleMaster, RoleSite = "master", "site"

// The values of sync.
const SyncLogical, SyncFeed = "logical", "feed"

// DefaultOcspsyncd returns the defaults.
func DefaultOcspsyncd() Ocspsyncd {
	return Ocspsyncd{Sync: SyncLogical, Admin: "127.0.0.1:9081", Heartbeat: 5 * time.Second, Recount: time.Minute}
}

// Check finds what strict reading cannot.
func (c *Ocspsyncd) Check(report func(key, problem string)) {
	if c.Role != RoleMaster && c.Role != RoleSite {
		report("role", "wants master or site")
	}
	if c.Database.DSN == "" {
		report("database.dsn", "is missing: for example postgres://ocspsyncd@127.0.0.1:5432/ocspfleet?sslmode=disable")
	}
	switch {
	case c.Role == RoleSite && c.Site == "":
		report("site", "is missing: the site's name on the master's roster, for example site-a")
	case c.Role == RoleMaster && c.Site != "":
		report("site", "is for role site")
	case c.Role == RoleSite:
		if err := db.CheckSite(c.Site); err != nil {
			report("site", err.Error())
		}
	}
	switch {
	case c.Sync != SyncLogical && c.Sync != SyncFeed:
		report("sync", "wants logical or feed")
	case c.Sync == SyncFeed && c.Role != RoleSite:
		report("sync", "is for role site")
	case c.Sync == SyncFeed && !c.Feed.Given():
		report("feed", "is missing: root, tls_key_file and sources")
	case c.Sync == SyncFeed && c.Master.DSN != "":
		report("master", "is for sync logical: the feed's sources stand in feed.sources")
	}
	switch {
	case c.Sync == SyncLogical && c.Feed.RootAlone():
		if _, err := c.Feed.Verifier(); err != nil {
			report("feed.root", err.Error())
		}
	case c.Feed.Given():
		c.Feed.Check(c.Role, c.Role == RoleSite && c.Sync == SyncLogical, report)
	}
	switch {
	case c.Role == RoleSite && c.Sync == SyncLogical && c.Master.DSN == "":
		report("master.dsn", "is missing: for example postgres://site_a@master.example:5432/ocspfleet?sslmode=verify-full")
	case c.Role == RoleMaster && c.Master.DSN != "":
		report("master", "is for role site")
	}
	if c.Heartbeat < 100*time.Millisecond || c.Heartbeat > 5*time.Minute {
		report("heartbeat", "wants 100ms to 5m")
	}
	if c.Recount < time.Second {
		report("recount", "wants at least 1s")
	}
}
