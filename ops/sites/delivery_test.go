package sites

import (
	"context"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
)

// A site that asks the feed is waited for until it says, by its next question, that it
// has the news of its revocation; one that does not ask is not, and none for long.
func TestDeliveryWaitsForTheFeed(t *testing.T) {
	w := newWithdrawn(t)
	super := dbtest.Open(t, w.super).Publisher
	deliver := func(patience time.Duration) string {
		run := w.run(t)
		run.Patience = patience
		said, err := run.delivery().do(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	saw := func(position int64, ago time.Duration) {
		if err := super.SawFeedClients(context.WithoutCancel(t.Context()), []db.FeedClient{{Site: w.site, Position: position, SeenAt: time.Now().Add(-ago)}}); err != nil {
			t.Error(err)
		}
	}
	head, err := super.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		position int64
		ago      time.Duration
		patience time.Duration
		said     string
	}{
		{"was there long ago", head.Position, time.Hour, time.Minute, "does not ask the master's feed"},
		{"has it", head.Position, time.Second, time.Minute, "the site has it, by the feed"},
		{"is silent", head.Position - 1, time.Second, 50 * time.Millisecond, "not confirmed in time"},
	} {
		saw(c.position, c.ago)
		if said := deliver(c.patience); !strings.Contains(said, c.said) {
			t.Errorf("%s: %q, want %q", c.name, said, c.said)
		}
	}
	go func() { time.Sleep(100 * time.Millisecond); saw(head.Position, 0) }()
	if said := deliver(time.Minute); said != "the site has it, by the feed" {
		t.Errorf("it asked while it was waited for: %q", said)
	}
}
