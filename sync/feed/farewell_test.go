package feed

import (
	"log/slog"
	"testing"
	"time"

	"ocspfleet/db"
)

// A site that was active stays for the farewell, once; one that was not is barred at
// once, also by a master that was started anew.
func TestFarewellIsShortAndOnce(t *testing.T) {
	guests, pin := &Guests{}, Pin{1}
	b := NewGuestbook(nil, guests, slog.New(slog.DiscardHandler))
	now := time.Now()
	is := func(step string, state db.ResponderState, at time.Duration, in bool) {
		t.Helper()
		b.admit(map[[32]byte]db.FeedPin{pin: {Site: "site-a", State: state}}, now.Add(at))
		site, is := guests.Site(pin)
		told, barred := guests.Barred(pin)
		if is != in || barred == in || in && site != "site-a" || !in && told != state {
			t.Errorf("%s: in %t as %q, barred %t as %q, want in %t", step, is, site, barred, told, in)
		}
		if parts := in && state != db.ResponderActive; b.parting(now.Add(at)) != parts {
			t.Errorf("%s: a site is parting: %t, want %t", step, !parts, parts)
		}
	}
	is("suspended before the start", db.ResponderSuspended, 0, false)
	is("restored", db.ResponderActive, time.Second, true)
	is("suspended", db.ResponderSuspended, 2*time.Second, true)
	is("just before the end", db.ResponderSuspended, 2*time.Second+Farewell-1, true)
	is("at the end", db.ResponderSuspended, 2*time.Second+Farewell, false)
	is("long after", db.ResponderSuspended, time.Hour, false)
	is("then revoked", db.ResponderRevoked, time.Hour+time.Second, false)
	is("active under a new roster", db.ResponderActive, 2*time.Hour, true)
	is("revoked", db.ResponderRevoked, 2*time.Hour, true)
	is("revoked, later", db.ResponderRevoked, 2*time.Hour+Farewell, false)
	b.admit(nil, now.Add(3*time.Hour))
	if guests.knows(pin) {
		t.Error("a pin that left the roster is still known")
	}
}
