package cert

import (
	"testing"
	"time"

	"ocspfleet/db"
)

// What caches may hold is bounded by policy, the silent sites' copies included.
func TestGoodUntilCountsSilentSites(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	policy := db.Policy{Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, HTTPMaxAge: time.Hour}
	short := db.Policy{Validity: 2 * time.Hour, Backdate: time.Hour, MaxStaleness: 2 * time.Hour, HTTPMaxAge: 10 * time.Minute}
	for _, test := range []struct {
		name         string
		policy       db.Policy
		everySite    bool
		good, cached time.Duration
	}{
		{"all say revoked", policy, true, 72*time.Hour - 5*time.Minute, time.Hour},
		{"one is silent", policy, false, 72*time.Hour - 5*time.Minute, 36*time.Hour + 5*time.Minute + time.Hour},
		{"never after nextUpdate", short, false, time.Hour, time.Hour},
	} {
		good, cached := goodUntil(test.policy, now, test.everySite)
		if good.Sub(now) != test.good || cached.Sub(now) != test.cached {
			t.Errorf("%s: good until +%v, cached until +%v, want +%v and +%v", test.name, good.Sub(now), cached.Sub(now), test.good, test.cached)
		}
	}
}
