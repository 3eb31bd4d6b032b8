package publish_test

import (
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
)

// News are put together once for all who have seen the same; who has seen something
// else gets its own.
func TestNewsLeadFromWhatEachFollowerHasSeen(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	s.seals(t, func(c *publish.SealerConfig) { c.Wait = time.Millisecond })
	n := uint64(0)
	revoke := func() (note []byte, position int64) {
		t.Helper()
		n++
		serial := s.issue(t, n)
		if _, _, err := s.store.Master.Revoke(t.Context(), 1, serial, db.ReasonKeyCompromise, time.Time{}, act); err != nil {
			t.Fatal(err)
		}
		s.await(t, s.position(t))
		note, _, err := s.client.Checkpoint(t.Context(), 0, "", 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return note, s.position(t)
	}
	old, oldAt := revoke()
	recent, recentAt := revoke()

	type follower struct {
		seen  []byte
		after int64
		news  *feedhttp.News
		err   error
	}
	followers := make([]follower, 6) // half of them has seen either
	done := make(chan struct{})
	_, last := revoke()
	for i := range followers {
		f := &followers[i]
		f.seen, f.after = old, oldAt
		if i%2 == 1 {
			f.seen, f.after = recent, recentAt
		}
		go func() {
			f.news, f.err = s.client.News(t.Context(), f.after, f.seen, 1, 10*time.Second)
			done <- struct{}{}
		}()
	}
	for range followers {
		<-done
	}
	for i, f := range followers {
		if f.err != nil || f.news == nil {
			t.Fatalf("follower %d got %v, %v", i, f.news, f.err)
		}
		c, err := s.keys.OpenCheckpoint(f.news.Note)
		if err != nil || c.Position != last {
			t.Fatalf("follower %d is shown %+v, %v; the master is at %d", i, c, err, last)
		}
		next := f.after + 1
		for _, sealed := range f.news.Segments {
			_, segment, err := s.keys.Open(sealed)
			if err != nil || segment.First != next {
				t.Fatalf("follower %d has position %d and gets %+v, %v", i, next-1, segment, err)
			}
			next = segment.Last + 1
		}
		if next != last+1 {
			t.Errorf("follower %d is led from %d to %d, not to %d", i, f.after, next-1, last)
		}
	}
}

// A source that passed over what the follower took last tells it of what is newer, and
// not of what it has.
func TestNewsForWhoSawWhatWasPassedOver(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	note := func(at time.Duration) db.FeedNote {
		c := feedtest.Checkpoint(7)
		c.AsOf = feedtest.Noon.Add(at)
		signed, err := c.Sign(feedtest.KeyOf(t, "one"))
		if err != nil {
			t.Fatal(err)
		}
		return db.FeedNote{Epoch: epoch, Position: 7, AsOf: c.AsOf, Note: signed}
	}
	s.latest.Publish(note(time.Minute))
	if news, err := s.client.News(t.Context(), 7, note(0).Note, 1, time.Minute); err != nil || news == nil || string(news.Note) != string(note(time.Minute).Note) {
		t.Errorf("who saw an older one gets %v, %v", news, err)
	}
	if news, err := s.client.News(t.Context(), 7, note(2*time.Minute).Note, 1, 50*time.Millisecond); err != nil || news != nil {
		t.Errorf("who saw a newer one gets %v, %v", news, err)
	}
}
