package logical

import (
	"context"
	"errors"
	"log/slog"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// takeKeys copies the master's newest key set into the site's database, for ocspd and for the
// seeds of this process, which verify corrections with it. The root's signature counts, not the
// master's answer.
func (s *Subscription) takeKeys(ctx context.Context) {
	root := s.cfg.Root
	if root == nil {
		return
	}
	for _, from := range []feed.KeySetStore{s.cfg.Local, s.cfg.Master} {
		set, signed, err := feed.StoredKeySet(ctx, from, root.Name(), root)
		if errors.Is(err, db.ErrNotFound) || err == nil && errors.Is(set.Follows(s.keys), feed.ErrReplaced) {
			continue
		}
		if err == nil {
			err = set.Follows(s.keys)
		}
		if err == nil && from != s.cfg.Local {
			err = s.cfg.Local.KeepFeedKeys(ctx, set.Number, signed)
		}
		if err != nil {
			s.cfg.Log.ErrorContext(ctx, "key set not taken", slog.String("error", err.Error()))
			continue
		}
		s.keys = set
		s.cfg.Log.InfoContext(ctx, "key set taken", slog.Int64("number", set.Number), slog.Int("banned", len(set.Banned)))
	}
}

// corrections returns what verifies corrections, or why nothing does.
func (s *Subscription) corrections() (open db.OpenCorrections, why string) {
	switch {
	case s.keys != nil:
		return s.keys.OpenCorrections, ""
	case s.cfg.Root == nil:
		return nil, "no root is pinned: set feed.root in ocspsyncd.yaml and ocspd.yaml"
	}
	return nil, "no key set under the pinned root has come: have one signed and published (ocspctl feed keys)"
}
