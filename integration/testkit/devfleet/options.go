package devfleet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Options say which fleet to start.
type Options struct {
	// Dir is the fleet's folder; an earlier fleet in it is stopped and replaced.
	// Made if missing, mode 0700.
	Dir string
	// Root is the folder that the paths in fleet.json are relative to. Empty: the
	// working directory. What lies outside of it is named by absolute paths.
	Root string
	// Bin holds the built programs. Empty: the folder of this very program.
	Bin string
	// Sites is how many sites, named site-a, site-b, ...: 1 to 26. 0: 2.
	Sites int
	// Certs is how many certificates there are in all, both issuers together.
	// What openssl itself issues counts, so that there are never fewer than
	// about 100. 0: 1000.
	Certs int
	// Sync is how the sites follow the master: "logical", by native replication;
	// "feed", by the signed feed; "mixed" (the default), one by the feed and one by
	// native replication in turn, the third by the feed from the first site alone.
	Sync string
	// ReadThrough lets the sites by the feed ask the master for serials that their copies
	// do not have.
	ReadThrough bool
	// BasePort is the first port; the plan stands at Ports. 0: 18000.
	BasePort int
	// Resume keeps the earlier fleet and starts what is down. Sites, Certs, Sync
	// and BasePort are then the earlier fleet's.
	Resume bool
	// Progress is told what happens, one line each. Nil: nobody.
	Progress io.Writer
}

// UsageError is a wish that cannot be granted as it was said.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &UsageError{fmt.Sprintf(format, args...)}
}

// settle fills in the defaults, makes the paths absolute and refuses nonsense.
func (o *Options) settle() error {
	if o.Sites == 0 {
		o.Sites = 2
	}
	if o.Certs == 0 {
		o.Certs = 1000
	}
	if o.BasePort == 0 {
		o.BasePort = 18000
	}
	if o.Sync == "" {
		o.Sync = syncMixed
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	switch {
	case o.Sites < 1 || o.Sites > maxSites:
		return usagef("SITES=%d (--sites): want 1 to %d", o.Sites, maxSites)
	case o.Certs < 0:
		return usagef("CERTS=%d (--certs): want a number that is not negative", o.Certs)
	case o.Sync != syncLogical && o.Sync != syncFeed && o.Sync != syncMixed:
		return usagef("SYNC=%s (--sync): want logical, feed or mixed", o.Sync)
	case o.Dir == "":
		return usagef("no folder for the fleet: name one with --dir")
	}
	if err := checkPlan(o.BasePort, o.Sites); err != nil {
		return err
	}
	return o.settlePaths()
}

func (o *Options) settlePaths() error {
	var err error
	if o.Root == "" {
		if o.Root, err = os.Getwd(); err != nil {
			return fmt.Errorf("finding the working directory: %w", err)
		}
	}
	if o.Bin == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding the folder of this program: %w", err)
		}
		o.Bin = filepath.Dir(self)
	}
	for _, path := range []*string{&o.Dir, &o.Root, &o.Bin} {
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("naming %s: %w", *path, err)
		}
	}
	return nil
}

// dataDir is where PostgreSQL's folders lie. User postgres, whom PostgreSQL runs
// as when we are root, cannot enter a fleet's 0700 folder, nor perhaps the clone.
func dataDir(dir string) string {
	if os.Geteuid() != 0 {
		return filepath.Join(dir, "pg")
	}
	sum := sha256.Sum256([]byte(dir))
	return "/var/tmp/ocspfleet-" + hex.EncodeToString(sum[:6])
}
