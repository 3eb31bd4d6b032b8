// Package feedtest is the feed root and the second person with a key for corrections, in
// tests. It trusts nothing and nobody: all is made on the spot.
package feedtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/feed"

	"golang.org/x/mod/sumdb/note"
)

// Origin is the feed's name in tests.
const Origin = "ca.example/status"

// Corrector signs corrections under a key set.
type Corrector struct {
	Root *feed.Key // nil where the key set is another's
	Key  *feed.Key
	Set  *feed.KeySet
}

// Key makes a key of the feed.
func Key(tb testing.TB, origin string) *feed.Key {
	tb.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := feed.NewKey(origin, private)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// Named is the line of a key for the hours round now.
func Named(key *feed.Key) feed.FeedKey {
	now := time.Now().UTC().Truncate(time.Second)
	return feed.FeedKey{From: now.Add(-72 * time.Hour), Until: now.Add(72 * time.Hour), Verifier: key.Verifier()}
}

// NewCorrector brings a key set into force at a master that has none: it names one key,
// for corrections. The store's login is a superuser's.
func NewCorrector(tb testing.TB, master *masterdb.DB) *Corrector {
	tb.Helper()
	head, err := master.Head(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	c := &Corrector{Root: Key(tb, Origin), Key: Key(tb, Origin)}
	c.Set = &feed.KeySet{Origin: Origin, Number: 1, Epoch: head.Epoch, Correct: []feed.FeedKey{Named(c.Key)}}
	c.Publish(tb, master)
	return c
}

// Publish has the root sign the set, and brings it into force.
func (c *Corrector) Publish(tb testing.TB, master *masterdb.DB) {
	tb.Helper()
	signed, err := c.Set.Sign(c.Root)
	if err == nil {
		err = master.KeepFeedKeys(tb.Context(), c.Set.Number, signed)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Verifier is the root's, as sites pin it.
func (c *Corrector) Verifier(tb testing.TB) note.Verifier {
	tb.Helper()
	v, err := note.NewVerifier(c.Root.Verifier())
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// Sign signs what an approval of a request takes back.
func (c *Corrector) Sign(tb testing.TB, store *masterdb.DB, id int64) []db.SignedCorrection {
	tb.Helper()
	a, err := store.Approval(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	issuers, err := store.Issuers(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for _, issuer := range issuers {
		if issuer.ID != a.Issuer {
			continue
		}
		note := feed.CorrectionNote{Origin: c.Set.Origin, Issuer: issuer.Key, Wrong: a.Wrong, NotAfter: a.NotAfter, CorrectedAt: a.CorrectedAt}
		signed, err := c.Set.SignCorrections(c.Key, note.Notes(a.Taken))
		if err != nil {
			tb.Fatal(err)
		}
		return signed
	}
	tb.Fatalf("request %d is of issuer %d, which is not there", id, a.Issuer)
	return nil
}

// Approve has the login of store agree to a request, with this key.
func (c *Corrector) Approve(tb testing.TB, store *masterdb.DB, id int64, act db.Act) error {
	tb.Helper()
	return store.Approve(tb.Context(), id, act, c.Sign(tb, store, id)...)
}
