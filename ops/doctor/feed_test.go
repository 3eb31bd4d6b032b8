package doctor_test

import (
	"errors"
	"testing"
	"time"

	"ocspfleet/ops/doctor"
)

// Without a word on how the rows come, doctor guesses by what is kept.
func TestDoctorOfASiteThatFollowsTheFeed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a master and a site")
	}
	s := newSite(t, nil)
	s.doctor.NoFeed = "ocspsyncd.yaml is not there"
	s.exec(t, "insert into feed_anchor values (1, 1, 1, sha256('a'), sha256('b'))")
	want(t, s.doctor.Examine(t.Context()), doctor.Warn, "feed", "no checkpoint is kept yet")
	s.exec(t, "insert into feed_checkpoint select 1, epoch, 1, position + 1, as_of, 'note' from feed_head")
	want(t, s.doctor.Examine(t.Context()), doctor.Warn, "feed", "the newest checkpoint at")
	s.exec(t, "update feed_checkpoint set position = position - 1")
	all := s.doctor.Examine(t.Context())
	want(t, all, doctor.OK, "feed", "rows and newest checkpoint are at position")
	want(t, all, doctor.Warn, "sources", "not looked at: ocspsyncd.yaml is not there")
}

func TestDoctorJudgesTheFeedAndItsSources(t *testing.T) {
	s := newSite(t, nil)
	now := time.Now()
	s.exec(t, "insert into feed_anchor values (1, 1, 1, sha256('a'), sha256('b'))")
	s.exec(t, "insert into feed_checkpoint select 1, epoch, 1, position, as_of, 'note' from feed_head")
	source := func(change func(*doctor.FeedSource)) doctor.FeedSource {
		found := doctor.FeedSource{URL: "https://m:1", Master: true, Position: 7, AsOf: now}
		change(&found)
		return found
	}
	for _, c := range []struct {
		name   string
		change func(*doctor.Feed)
		level  doctor.Level
		check  string
		text   string
	}{
		{"well", func(*doctor.Feed) {}, doctor.OK, "source m:1", "is at position 7, confirmed "},
		{"well", func(*doctor.Feed) {}, doctor.OK, "feed", "is of position 1, segment 1"},
		{"clock", func(f *doctor.Feed) {
			f.Sources[0] = source(func(s *doctor.FeedSource) { s.Skew, s.HasSkew = 10*time.Minute, true })
		}, doctor.Fail, "clock", "is 10m0s from the master's"},
		{"keys end", func(f *doctor.Feed) { f.Keys.Until = now.Add(time.Hour) }, doctor.Warn, "feed keys", "the last key of set 2 ends in 59m"},
		{"keys ended", func(f *doctor.Feed) { f.Keys.Until = now.Add(-time.Hour) }, doctor.Fail, "feed keys", "have ended"},
		{"other root", func(f *doctor.Feed) { f.Keys.Err = errors.New("not its key") }, doctor.Fail, "feed keys", "not its key"},
		{"old checkpoint", func(f *doctor.Feed) { f.StaleAfter = time.Nanosecond }, doctor.Warn, "feed", "the newest checkpoint is"},
		{"old source", func(f *doctor.Feed) {
			f.Sources[0] = source(func(s *doctor.FeedSource) { s.AsOf = now.Add(-time.Hour) })
		}, doctor.Warn, "source m:1", "was confirmed 1h0m"},
		{"access denied", func(f *doctor.Feed) { f.Sources[0] = source(func(s *doctor.FeedSource) { s.AccessDenied = true }) }, doctor.Fail, "source m:1", "suspended or revoked"},
		{"forged", func(f *doctor.Feed) {
			f.Sources[0] = source(func(s *doctor.FeedSource) { s.Forged = errors.New("forged") })
		}, doctor.Fail, "source m:1", "forged"},
		{"no master", func(f *doctor.Feed) { f.Sources[0] = source(func(s *doctor.FeedSource) { s.Master = false }) }, doctor.Warn, "sources", "none is the master"},
		{"takes only", func(f *doctor.Feed) {
			f.PreferPeers, f.Sources = true, append(f.Sources, f.Sources[0], f.Sources[0])
		}, doctor.Warn, "peers", "others may not fetch from here"},
		{"gives", func(f *doctor.Feed) { f.Listens, f.Peers = true, 2 }, doctor.OK, "peers", "2 may fetch from here"},
	} {
		f := doctor.Feed{
			Admin: "127.0.0.1:1", StaleAfter: 3 * time.Minute, Keys: doctor.FeedKeys{Number: 2, Until: now.Add(8760 * time.Hour)},
			Sources: []doctor.FeedSource{source(func(*doctor.FeedSource) {})},
		}
		c.change(&f)
		s.doctor.Feed = &f
		t.Run(c.name, func(t *testing.T) { want(t, s.doctor.Examine(t.Context()), c.level, c.check, c.text) })
	}
}
