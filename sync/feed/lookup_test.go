package feed_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/lookup"
	"ocspfleet/sync/publish"
)

// newLookup is a master that answers one site for single serials.
func newLookup(tb testing.TB, change func(*publish.LookupServerConfig)) (*served, *publish.LookupServer) {
	tb.Helper()
	s := &served{master: newMaster(tb), server: newIdentity(tb), site: newIdentity(tb), access: &feedhttp.AccessList{}}
	s.keys.Number = 2
	s.keys.Answers = []feed.FeedKey{{From: s.keys.Keys[0].From, Until: s.keys.Keys[0].Until, Verifier: testKey(tb, "two").Verifier()}}
	s.access.Set(map[feedhttp.Pin]string{s.site.Pin: "site-a"})
	cfg := publish.LookupServerConfig{Store: s.sealer.Publisher, Key: testKey(tb, "two"), Keys: s.keys, Log: slog.New(slog.DiscardHandler)}
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

func TestBucketKeepsItsPace(t *testing.T) {
	b, now := lookup.NewBucket(2, 4), time.Unix(0, 0)
	taken := func() (n int) {
		for b.Take(now) {
			n++
		}
		return n
	}
	if n := taken(); n != 4 {
		t.Errorf("%d at once, want 4", n)
	}
	now = now.Add(time.Second)
	if n := taken(); n != 2 {
		t.Errorf("%d after a second, want 2", n)
	}
	now = now.Add(-time.Hour) // the clock is set back
	if n := taken(); n != 0 {
		t.Errorf("%d after none, want 0", n)
	}
	now = now.Add(24 * time.Hour)
	if n := taken(); n != 4 {
		t.Errorf("%d after a day, want 4", n)
	}
}

// lookupClient asks at a socket where tell answers.
func lookupClient(t *testing.T, tell http.HandlerFunc) *lookup.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "ask")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, done := &http.Server{Handler: tell}, make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	open := func(keys []byte) (*feed.KeySet, error) { return feed.OpenKeySet(keys, origin, rootVerifier(t)) }
	q := lookup.New(socket, open, func() time.Time { return noon.Add(time.Second) })
	t.Cleanup(q.Close)
	return q
}

// ocspd believes nothing that its ocspsyncd tells, only what is signed, and for the
// question that it asked.
func TestLookupClientBelievesTheRootAlone(t *testing.T) {
	keys, err := answerKeys(t).Sign(testKey(t, "root"))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := answerKeys(t).Sign(testKey(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	other := testAnswer()
	other.Serial = db.Serial{0x02}
	ask := func(reply feed.SignedAnswer, code int, at db.Horizon) error {
		t.Helper()
		q := lookupClient(t, func(w http.ResponseWriter, _ *http.Request) {
			der, err := reply.Marshal()
			if err != nil {
				t.Error(err)
			}
			w.WriteHeader(code)
			_, _ = w.Write(der)
		})
		_, err := q.Ask(t.Context(), [32]byte{1}, db.Serial{0x00, 0xff}, at)
		return err
	}
	at, good := db.Horizon{Epoch: epoch, Position: 8}, feed.SignedAnswer{Keys: keys, Note: signed(t, testAnswer(), "two")}
	if err := ask(good, http.StatusOK, at); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"no answer":          ask(good, http.StatusServiceUnavailable, at),
		"an older position":  ask(good, http.StatusOK, db.Horizon{Epoch: epoch, Position: 9}),
		"another epoch":      ask(good, http.StatusOK, db.Horizon{Epoch: epoch - 1, Position: 8}),
		"a forged key set":   ask(feed.SignedAnswer{Keys: forged, Note: good.Note}, http.StatusOK, at),
		"a wrong signer":     ask(feed.SignedAnswer{Keys: keys, Note: signed(t, testAnswer(), "one")}, http.StatusOK, at),
		"another serial":     ask(feed.SignedAnswer{Keys: keys, Note: signed(t, other, "two")}, http.StatusOK, at),
		"notes exchanged":    ask(feed.SignedAnswer{Keys: good.Note, Note: keys}, http.StatusOK, at),
		"what is not signed": ask(feed.SignedAnswer{Keys: keys, Note: []byte("status good\n")}, http.StatusOK, at),
	} {
		if err == nil {
			t.Errorf("%s is believed", name)
		}
	}
}

// A silent ocspsyncd costs a second and no more, and not for everybody.
func TestLookupClientDoesNotWait(t *testing.T) {
	release := make(chan struct{})
	q := lookupClient(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const questions = 200 // of which 16 are let through each second
	results := make(chan error, questions)
	for range questions {
		go func() {
			_, err := q.Ask(ctx, [32]byte{1}, db.Serial{0x01}, db.Horizon{Epoch: epoch})
			results <- err
		}()
	}
	busy := 0
	for range questions {
		err := <-results
		if err == nil {
			t.Error("an answer came out of silence")
		}
		if errors.Is(err, lookup.ErrBusy) {
			busy++
		}
	}
	if busy == 0 || ctx.Err() != nil {
		t.Errorf("%d of %d were sent away at once, %v", busy, questions, ctx.Err())
	}
	gone := lookup.New(filepath.Join(t.TempDir(), "none"), nil, time.Now)
	if _, err := gone.Ask(t.Context(), [32]byte{1}, db.Serial{0x01}, db.Horizon{}); err == nil {
		t.Error("an answer came from nowhere")
	}
}
