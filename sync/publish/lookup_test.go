package publish_test

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
)

// newLookup is a master that answers one site for single serials.
func newLookup(tb testing.TB, change func(*publish.LookupServerConfig)) (*served, *publish.LookupServer) {
	tb.Helper()
	s := &served{master: newMaster(tb), server: newIdentity(tb), site: newIdentity(tb), access: &feedhttp.AccessList{}}
	s.keys.Number = 2
	s.keys.Answers = []feed.FeedKey{{From: s.keys.Keys[0].From, Until: s.keys.Keys[0].Until, Verifier: feedtest.KeyOf(tb, "two").Verifier()}}
	s.access.Set(map[feedhttp.Pin]string{s.site.Pin: "site-a"})
	cfg := publish.LookupServerConfig{Store: s.sealer.Publisher, Key: feedtest.KeyOf(tb, "two"), Keys: s.keys, Log: slog.New(slog.DiscardHandler)}
	change(&cfg)
	lookup := publish.NewLookupServer(cfg)
	handler := feedhttp.NewServer(feedhttp.ServerConfig{Store: s.sealer.DB, Latest: s.latest, Access: s.access, Lookup: lookup, Log: slog.New(slog.DiscardHandler)})
	s.url = listen(tb, handler.HTTP(), s.server.ServerTLS(s.access))
	s.client = s.clientAs(tb, s.site)
	return s, lookup
}

func (s *served) asks(tb testing.TB, serial db.Serial) *feed.Answer {
	tb.Helper()
	note, err := s.client.Ask(tb.Context(), [32]byte{1}, serial)
	if err != nil {
		tb.Fatal(err)
	}
	a, err := s.keys.OpenAnswer(note)
	if err != nil {
		tb.Fatal(err)
	}
	if a.Issuer != [32]byte{1} || string(a.Serial) != string(serial) || a.Position != s.position(tb) || a.Epoch != s.keys.Epoch {
		tb.Fatalf("asked for %s, it says %+v", serial, a)
	}
	return a
}

func TestLookupServerSaysWhatTheMasterHas(t *testing.T) {
	t.Parallel()
	s, lookup := newLookup(t, func(*publish.LookupServerConfig) {})
	serial := db.Serial{0x40, 0, 0, 0, 0, 0, 0, 0, 7}
	if a := s.asks(t, serial); a.Issued || a.Until.Sub(a.AsOf) > time.Minute {
		t.Errorf("nothing was issued, it says %+v", a)
	}
	s.issue(t, 7)
	if a := s.asks(t, serial); !a.Issued || a.Status.Revoked {
		t.Errorf("it was issued, it says %+v", a)
	}
	if _, _, err := s.store.Master.Revoke(t.Context(), 1, serial, db.ReasonKeyCompromise, time.Time{}, act); err != nil {
		t.Fatal(err)
	}
	if a := s.asks(t, serial); !a.Status.Permanent() || a.Status.Reason != db.ReasonKeyCompromise {
		t.Errorf("it was revoked, it says %+v", a)
	}
	if _, err := s.client.Ask(t.Context(), [32]byte{9}, serial); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("asked for an unknown issuer: %v", err)
	}
	if _, err := s.client.Ask(t.Context(), [32]byte{1}, db.Serial{0x80}); !errors.Is(err, feedhttp.ErrSource) {
		t.Errorf("asked for a negative serial: %v", err)
	}
	if _, err := s.clientAs(t, newIdentity(t)).Ask(t.Context(), [32]byte{1}, serial); err == nil {
		t.Error("a stranger is answered")
	}
	if lookup.Trouble() != "" {
		t.Error(lookup.Trouble())
	}
}

// A site may ask so often and no more; time gives it new questions.
func TestLookupServerLimitsASite(t *testing.T) {
	t.Parallel()
	var seconds atomic.Int64
	s, _ := newLookup(t, func(c *publish.LookupServerConfig) {
		c.Rate, c.Burst, c.Now = 1, 3, func() time.Time { return time.Unix(seconds.Load(), 0) }
	})
	serial := db.Serial{0x01}
	for range 3 {
		s.asks(t, serial)
	}
	if _, err := s.client.Ask(t.Context(), [32]byte{1}, serial); !errors.Is(err, feedhttp.ErrSource) {
		t.Fatalf("a fourth question: %v", err)
	}
	seconds.Add(1)
	s.asks(t, serial)
}

func TestLookupServerWithoutAKeyOfTheSet(t *testing.T) {
	t.Parallel()
	s, lookup := newLookup(t, func(c *publish.LookupServerConfig) {
		set := *c.Keys
		set.Answers = nil
		c.Keys = &set
	})
	if _, err := s.client.Ask(t.Context(), [32]byte{1}, db.Serial{0x01}); !errors.Is(err, feedhttp.ErrSource) {
		t.Errorf("asked, with a key that the set does not name: %v", err)
	}
	if lookup.Trouble() == "" {
		t.Error("nobody is told")
	}
	if _, err := newServed(t).client.Ask(t.Context(), [32]byte{1}, db.Serial{0x01}); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("asked where nothing answers lookups: %v", err)
	}
}
