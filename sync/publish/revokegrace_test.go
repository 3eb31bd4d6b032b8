package publish

import (
	"log/slog"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/sync/feedhttp"
)

// A site that was active stays for revokeGrace, once; one that was not is denied at
// once, also by a master that was started anew.
func TestRevokeGraceIsShortAndOnce(t *testing.T) {
	t.Parallel()
	access, pin := &feedhttp.AccessList{}, feedhttp.Pin{1}
	b := NewClientTracker(nil, access, slog.New(slog.DiscardHandler))
	now := time.Now()
	is := func(step string, state db.ResponderState, at time.Duration, in bool) {
		t.Helper()
		b.admit(map[[32]byte]publisherdb.FeedPin{pin: {Site: "site-a", State: state}}, now.Add(at))
		site, is := access.Site(pin)
		told, denied := access.Denied(pin)
		if is != in || denied == in || in && site != "site-a" || !in && told != state {
			t.Errorf("%s: in %t as %q, denied %t as %q, want in %t", step, is, site, denied, told, in)
		}
		if parts := in && state != db.ResponderActive; b.inGrace(now.Add(at)) != parts {
			t.Errorf("%s: a site is inGrace: %t, want %t", step, !parts, parts)
		}
	}
	is("suspended before the start", db.ResponderSuspended, 0, false)
	is("restored", db.ResponderActive, time.Second, true)
	is("suspended", db.ResponderSuspended, 2*time.Second, true)
	is("just before the end", db.ResponderSuspended, 2*time.Second+revokeGrace-1, true)
	is("at the end", db.ResponderSuspended, 2*time.Second+revokeGrace, false)
	is("long after", db.ResponderSuspended, time.Hour, false)
	is("then revoked", db.ResponderRevoked, time.Hour+time.Second, false)
	is("active under a new roster", db.ResponderActive, 2*time.Hour, true)
	is("revoked", db.ResponderRevoked, 2*time.Hour, true)
	is("revoked, later", db.ResponderRevoked, 2*time.Hour+revokeGrace, false)
	b.admit(nil, now.Add(3*time.Hour))
	if access.Knows(pin) {
		t.Error("a pin that left the roster is still known")
	}
}
