package integration

import (
	"testing"
	"time"

	"ocspfleet/integration/testkit/garbage"
)

// A quarter of a minute of what make soak does for ten.
func TestGarbageLeavesASiteAsItWas(t *testing.T) {
	f := shared(t)
	r, err := garbage.Run(t.Context(), f, f.Sites[1], 15*time.Second)
	t.Logf("%+v", r)
	if err != nil {
		t.Error(err)
	}
	if r.Attacks < 1000 || r.Canaries < 20 {
		t.Errorf("%d attacks beside %d good clients: too few to say anything", r.Attacks, r.Canaries)
	}
}
