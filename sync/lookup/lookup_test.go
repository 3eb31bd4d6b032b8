package lookup_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/lookup"
)

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
	open := func(keys []byte) (*feed.KeySet, error) {
		return feed.OpenKeySet(keys, feedtest.Origin, feedtest.RootOf(t))
	}
	q := lookup.New(socket, open, func() time.Time { return feedtest.Noon.Add(time.Second) })
	t.Cleanup(q.Close)
	return q
}

// ocspd believes nothing that its ocspsyncd tells, only what is signed, and for the
// question that it asked.
func TestLookupClientBelievesTheRootAlone(t *testing.T) {
	keys, err := feedtest.AnswerKeys(t).Sign(feedtest.KeyOf(t, "root"))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := feedtest.AnswerKeys(t).Sign(feedtest.KeyOf(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	other := feedtest.Answer()
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
	at, good := db.Horizon{Epoch: feedtest.Epoch, Position: 8}, feed.SignedAnswer{Keys: keys, Note: signed(t, feedtest.Answer(), "two")}
	if err := ask(good, http.StatusOK, at); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"no answer":          ask(good, http.StatusServiceUnavailable, at),
		"an older position":  ask(good, http.StatusOK, db.Horizon{Epoch: feedtest.Epoch, Position: 9}),
		"another epoch":      ask(good, http.StatusOK, db.Horizon{Epoch: feedtest.Epoch - 1, Position: 8}),
		"a forged key set":   ask(feed.SignedAnswer{Keys: forged, Note: good.Note}, http.StatusOK, at),
		"a wrong signer":     ask(feed.SignedAnswer{Keys: keys, Note: signed(t, feedtest.Answer(), "one")}, http.StatusOK, at),
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
			_, err := q.Ask(ctx, [32]byte{1}, db.Serial{0x01}, db.Horizon{Epoch: feedtest.Epoch})
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

func signed(tb testing.TB, a feed.Answer, key string) []byte {
	tb.Helper()
	note, err := a.Sign(feedtest.KeyOf(tb, key))
	if err != nil {
		tb.Fatal(err)
	}
	return note
}
