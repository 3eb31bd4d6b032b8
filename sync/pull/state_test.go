package pull

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/replica"
)

func TestDiagnoseNamesWhatMattersMost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sight
		want string
	}{
		{"all is well", sight{}, ""},
		{"the copy cannot be counted", sight{unread: "cannot be counted"}, "cannot be counted"},
		{"a source was left", sight{err: errors.New("no connection"), unread: "cannot be counted"}, "no connection"},
		{"the master does not let us in", sight{denied: true, err: errors.New("no connection"), unread: "cannot be counted"}, replica.AccessDenied},
	} {
		if got := diagnose(c.sight); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// held is a copy that stands on segment 7, at position 100 of epoch 5.
func held() sitedb.FeedCopy {
	return sitedb.FeedCopy{
		Seeded: true, Anchored: true, Anchor: sitedb.Anchor{Epoch: 5, Number: 7, Hash: [32]byte{7}},
		Head: db.Head{Epoch: 5, Position: 100, Certificates: db.Tally{Count: 3, Digest: 9}},
	}
}

func TestCheckpointsAreComparedWithTheCopy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*sitedb.FeedCopy, *feed.Checkpoint, *db.Head)
		want   relation
		seed   string // a part of why the copy is made anew
	}{
		{"the same", func(*sitedb.FeedCopy, *feed.Checkpoint, *db.Head) {}, follows, ""},
		{"a later segment", func(_ *sitedb.FeedCopy, c *feed.Checkpoint, h *db.Head) { c.Number, h.Position = 9, 120 }, follows, ""},
		{"far ahead", func(_ *sitedb.FeedCopy, c *feed.Checkpoint, _ *db.Head) { c.Number = 8 + maxBehind }, follows, "too far behind"},
		{"an earlier segment", func(_ *sitedb.FeedCopy, c *feed.Checkpoint, _ *db.Head) { c.Number = 6 }, behind, ""},
		{"other changes", func(_ *sitedb.FeedCopy, c *feed.Checkpoint, _ *db.Head) { c.Segment = feed.Hash{8} }, otherSegment, ""},
		{"other rows", func(_ *sitedb.FeedCopy, _ *feed.Checkpoint, h *db.Head) { h.Certificates.Count++ }, otherContent, ""},
		{"another position's rows", func(_ *sitedb.FeedCopy, _ *feed.Checkpoint, h *db.Head) { h.Position++; h.Certificates.Count++ }, follows, ""},
		{"a later epoch", func(_ *sitedb.FeedCopy, c *feed.Checkpoint, _ *db.Head) { c.Epoch = 6 }, follows, "no copy of this epoch"},
		{"an earlier epoch", func(_ *sitedb.FeedCopy, c *feed.Checkpoint, _ *db.Head) { c.Epoch = 4 }, olderEpoch, "no copy of this epoch"},
		{"rows of an earlier epoch", func(f *sitedb.FeedCopy, _ *feed.Checkpoint, _ *db.Head) { f.Head.Epoch = 4 }, follows, "no copy of this epoch"},
		{"rows of another way", func(f *sitedb.FeedCopy, _ *feed.Checkpoint, _ *db.Head) { f.Anchored = false }, follows, "no copy of this epoch"},
		{"rows of another way, of a later epoch", func(f *sitedb.FeedCopy, _ *feed.Checkpoint, _ *db.Head) { f.Anchored, f.Head.Epoch = false, 6 }, olderEpoch, "no copy of this epoch"},
		{"a new site", func(f *sitedb.FeedCopy, _ *feed.Checkpoint, _ *db.Head) { *f = sitedb.FeedCopy{} }, follows, "no copy of this epoch"},
	} {
		have := held()
		head := have.Head
		checkpoint := &feed.Checkpoint{Epoch: 5, Number: 7, Segment: feed.Hash{7}}
		c.change(&have, checkpoint, &head)
		if got := relationOf(have, checkpoint, head); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if got := wantsSeed(have, "", checkpoint); (got == "") != (c.seed == "") || !strings.Contains(got, c.seed) {
			t.Errorf("%s: made anew since %q, want %q", c.name, got, c.seed)
		}
	}
	if got := wantsSeed(held(), "a row is lost", &feed.Checkpoint{Epoch: 5, Number: 7}); got != "a row is lost" {
		t.Errorf("a copy that differs is made anew since %q", got)
	}
}

func TestAHeadThatWasChangedHereIsFound(t *testing.T) {
	t.Parallel()
	kept := db.FeedNote{Epoch: 5, Number: 7, Position: 100}
	for _, c := range []struct {
		name   string
		change func(*sitedb.FeedCopy)
		newest int64 // position of the newest snapshot
		wrong  bool
	}{
		{"as stored", func(*sitedb.FeedCopy) {}, 0, false},
		{"back", func(f *sitedb.FeedCopy) { f.Head.Position = 99 }, 0, true},
		{"ahead", func(f *sitedb.FeedCopy) { f.Head.Position = 101 }, 0, true},
		{"ahead by a snapshot", func(f *sitedb.FeedCopy) { f.Head.Position = 101 }, 101, false},
		{"beyond the snapshot", func(f *sitedb.FeedCopy) { f.Head.Position = 102 }, 101, true},
		{"of another epoch", func(f *sitedb.FeedCopy) { f.Head.Epoch = 6 }, 0, true},
		{"the checkpoint is of another segment", func(f *sitedb.FeedCopy) { f.Anchor.Number, f.Head.Position = 6, 99 }, 0, false},
	} {
		have := held()
		c.change(&have)
		if got := wrongHead(have, kept, db.Snapshot{Position: c.newest}); (got != "") != c.wrong {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestStaleIsOlderThanAllowed(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	if err := stale(now, now.Add(-time.Minute), time.Minute); err != nil {
		t.Error(err)
	}
	if err := stale(now, now.Add(-61*time.Second), time.Minute); !errors.Is(err, ErrStale) || !strings.HasSuffix(err.Error(), ": 1m1s") {
		t.Error(err)
	}
}
