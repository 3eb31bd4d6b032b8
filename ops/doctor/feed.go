package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ocspfleet/db"
)

// Feed is the signed feed in ocspsyncd's configuration, and the result of asking its sources in
// the same way as ocspsyncd does.
type Feed struct {
	Native bool     // rows and signed files come by native replication
	Admin  string   // of ocspsyncd
	Faults []string // in the configuration: the root, the TLS key
	Pin    string   // of this site's own TLS key
	// Keys is the key set stored here, verified by the pinned root.
	Keys FeedKeys
	// Forks are the contradictions found here that count by that set and are not settled.
	Forks       []db.Fork
	ForksErr    error
	StaleAfter  time.Duration // how old a checkpoint may be
	PreferPeers bool
	Listens     bool // it relays
	Peers       int  // number of peers that may fetch here
	Sources     []FeedSource
}

// FeedKeys is a key set of the feed.
type FeedKeys struct {
	Number int64     // 0: none is stored here
	Until  time.Time // when the last of its keys ends
	Err    error     // the root did not sign it
}

// FeedSource is the result of asking a source. At most one of the faults is set.
type FeedSource struct {
	URL      string
	Master   bool
	Position int64 // of its newest checkpoint, verified
	AsOf     time.Time
	Skew     time.Duration // of this machine's clock against it, if the source is the master and shows its clock
	HasSkew  bool

	Unreachable  error // no connection, or no answer of a feed
	OtherKey     bool  // its TLS key is not the pinned one
	Unknown      bool  // the source does not know this site's TLS key
	AccessDenied bool  // the source knows it and refuses it
	Forged       error // its data is not signed by a key of the set
}

// keysWarning is how long before the end of a feed key doctor warns.
const keysWarning = 30 * 24 * time.Hour

// feed examines a site that follows the signed feed.
func (s Site) feed(ctx context.Context, f *results) {
	for _, fault := range s.Feed.Faults {
		f.fail("feed config", "ocspctl config check --daemon ocspsyncd", "%s", fault)
	}
	s.feedKeys(f)
	feedForks(f, s.Feed.Forks, s.Feed.ForksErr)
	s.feedRows(ctx, f)
	s.feedSources(f)
	if !s.Feed.Native {
		s.feedFiles(ctx, f)
	}
	s.feedPeers(f)
	f.syncd(ctx, s.Feed.Admin)
}

func (s Site) feedKeys(f *results) {
	const fix = "have the feed's root sign a new key set in time: docs/feed-keys.md"
	switch k := s.Feed.Keys; {
	case len(s.Feed.Faults) > 0:
	case k.Err != nil:
		f.fail("feed keys", "compare feed.root with what the CA's staff says: the stored key set is not this root's", "%v", k.Err)
	case k.Number == 0:
		f.warn("feed keys", "start ocspsyncd: the first source brings one", "no key set is kept here yet")
	case !s.Now().Before(k.Until):
		f.fail("feed keys", fix, "all keys of set %d have ended, at %s", k.Number, k.Until.UTC().Format(time.RFC3339))
	case k.Until.Sub(s.Now()) < keysWarning:
		f.warn("feed keys", fix, "the last key of set %d ends in %s", k.Number, span(k.Until.Sub(s.Now())))
	default:
		f.ok("feed keys", "set %d is the pinned root's, its last key ends in %s", k.Number, span(k.Until.Sub(s.Now())))
	}
}

// feedForks reports contradictions: a key of the master was stolen, or two masters publish.
func feedForks(f *results, forks []db.Fork, err error) {
	switch {
	case err != nil:
		f.warn("feed forks", "use a login of group ocsp_operator", "not looked at: %v", err)
	case len(forks) > 0:
		f.fail("feed forks", "ask the CA's staff: ocspctl fleet status at the master; docs/feed-keys.md says how one is settled",
			"%d: the feed says two things, both signed by keys that are believed: %s, from %s at %s", len(forks), forks[0].Why, forks[0].From, forks[0].At.Format(time.RFC3339))
	}
}

// feedRows compares the rows with the newest checkpoint, and checks the checkpoint's age.
func (s Site) feedRows(ctx context.Context, f *results) {
	fix, store := "ocspsyncd's /readyz and log say which source fails", s.Store.DB
	if s.Feed.Native {
		fix, store = "ocspsyncd's /readyz says why they stand still", s.Store.Files()
	}
	kept, err := s.Store.FeedCopy(ctx)
	if err != nil {
		f.fail("feed", "look at the login's rights: ocspctl db user add", "%v", err)
		return
	}
	note, err := store.FeedNote(ctx)
	switch age := s.Now().Sub(note.AsOf); {
	case errors.Is(err, db.ErrNotFound) && !kept.Anchored && !s.Feed.Native:
		f.fail("feed", "start ocspsyncd: it seeds the site", "nothing was fetched yet")
	case errors.Is(err, db.ErrNotFound):
		f.warn("feed", fix, "no checkpoint is kept yet")
	case err != nil:
		f.fail("feed", fix, "%v", err)
	case age > s.Feed.StaleAfter:
		f.warn("feed", fix, "the newest checkpoint is %s old, a source's may be %s", span(age), span(s.Feed.StaleAfter))
	case !s.Feed.Native && note.Position != kept.Head.Position:
		f.warn("feed", "wait a moment and look again", "the rows are at position %d, the newest checkpoint at %d", kept.Head.Position, note.Position)
	default:
		f.ok("feed", "the newest checkpoint is of position %d, segment %d, %s old", note.Position, note.Number, span(max(0, age)))
	}
}

// feedSources checks each source, and whether at least one works.
func (s Site) feedSources(f *results) {
	reached, masters := 0, 0
	for _, source := range s.Feed.Sources {
		check := "source " + strings.TrimPrefix(source.URL, "https://")
		if source.Master {
			masters++
		}
		switch age := s.Now().Sub(source.AsOf); {
		case source.Unreachable != nil:
			f.warn(check, "is it up, and does a firewall let this site through?", "%v", source.Unreachable)
			continue
		case source.OtherKey:
			f.fail(check, "ask its staff for the pin (ocspctl key pin there), and set it in feed.sources", "shows another TLS key than the pinned one")
			continue
		case source.Unknown:
			f.fail(check, "tell its staff this pin: ocspctl responder set SITE --feed-pin PIN --apply at the master, feed.peers at a peer", "does not know this site's TLS key, pin %s", s.Feed.Pin)
			continue
		case source.AccessDenied:
			f.fail(check, "ask the CA's staff: ocspctl responder show SITE", "does not let this site in: it was suspended or revoked, or has left")
			continue
		case source.Forged != nil:
			f.fail(check, "do not trust it; ask the CA's staff whether the keys were changed: docs/feed-keys.md", "%v", source.Forged)
			continue
		case age > s.Feed.StaleAfter:
			f.warn(check, "is the master's ocspsyncd alive? ocspctl doctor there", "is at position %d, and was confirmed %s ago", source.Position, span(age))
		default:
			f.ok(check, "is at position %d, confirmed %s ago", source.Position, span(max(0, age)))
		}
		reached++
	}
	if reached == 0 && !s.Feed.Native {
		f.fail("sources", "see the lines above", "none of %d is of use: the copy ages", len(s.Feed.Sources))
	}
	if masters == 0 && len(s.Feed.Sources) > 0 && !s.Feed.Native {
		f.warn("sources", "set master: true at the master in feed.sources", "none is the master: nobody judges this site's clock, and it never hears that it was denied access")
	}
}

// mostBehind bounds the octets of segments that a relay may keep, as a multiple of its
// snapshot: four until it takes a newer one, and what arrives in thirty days.
const mostBehind = 8

func (s Site) feedFiles(ctx context.Context, f *results) {
	files, err := s.Store.FeedFiles(ctx)
	if err != nil {
		f.warn("feed files", "use a login of group ocsp_operator", "not looked at: %v", err)
		return
	}
	text := fmt.Sprintf("%d segments with %s, %d snapshots with %s", files.Segments, octets(files.SegmentOctets), files.Snapshots, octets(files.SnapshotOctets))
	if files.SegmentOctets > mostBehind*files.SnapshotOctets+1<<30 {
		f.warn("feed files", "ocspsyncd's log says why it does not trim them", "%s: more than thirty days of a busy CA", text)
		return
	}
	f.ok("feed files", "%s", text)
}

func octets(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func (s Site) feedPeers(f *results) {
	peers := max(0, len(s.Feed.Sources)-1)
	switch {
	case s.Feed.PreferPeers && peers < 2:
		f.warn("peers", "name two peers or more after the master in feed.sources, or unset prefer_peers", "prefer_peers is set, and there are %d", peers)
	case s.Feed.Peers > 0 && !s.Feed.Listens, s.Feed.PreferPeers && s.Feed.Peers == 0:
		f.warn("peers", "set feed.listen and feed.peers, so that this site gives what it takes", "others may not fetch from here")
	case s.Feed.Listens:
		f.ok("peers", "%d may fetch from here", s.Feed.Peers)
	}
}
