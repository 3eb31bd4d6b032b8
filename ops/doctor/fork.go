package doctor

import (
	"context"
	"time"

	"ocspfleet/db"
)

// Fork is a contradiction of the feed, as the master rates it.
type Fork struct {
	db.Fork
	Proven bool // keys of this master signed both; else only the site claims it
}

func (m Master) forks(ctx context.Context, f *results) {
	if m.Forks == nil {
		return
	}
	forks, err := m.Forks(ctx)
	if err != nil {
		f.warn("feed forks", "use a login of group ocsp_operator", "not looked at: %v", err)
		return
	}
	for _, fork := range forks {
		const settle = "docs/feed-keys.md; then ocspctl approval request fork"
		if fork.Proven {
			f.fail("feed forks", settle, "fork %d: keys of this master signed two histories, site %s found: %s, at %s: a key was stolen, or two masters publish",
				fork.ID, fork.From, fork.Why, fork.At.Format(time.RFC3339))
		} else {
			f.warn("feed forks", settle, "fork %d: site %s says that it found %s, at %s, and shows nothing that proves it", fork.ID, fork.From, fork.Why, fork.At.Format(time.RFC3339))
		}
	}
}
