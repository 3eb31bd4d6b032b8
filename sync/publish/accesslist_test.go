package publish_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
)

// A site that is suspended or revoked is told so, on its open connection and on a new
// one, and a poll that it waits in ends at once. Others learn nothing.
func TestDeniedSiteIsToldWhy(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for several rounds")
	}
	t.Parallel()
	s := newServed(t)
	s.seals(t, func(*publish.SealerConfig) {})
	s.await(t, s.position(t))
	if _, err := s.client.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, state := range []db.ResponderState{db.ResponderSuspended, db.ResponderRevoked} {
		s.access.Set(map[feedhttp.Pin]string{s.site.Pin: "site-a"})
		came, began := make(chan error, 1), time.Now()
		go func() {
			_, err := s.client.News(context.WithoutCancel(t.Context()), s.latest.Newest().Position+1000, nil, 1, 85*time.Second)
			came <- err
		}()
		time.Sleep(50 * time.Millisecond)
		s.access.Replace(nil, map[feedhttp.Pin]db.ResponderState{s.site.Pin: state})
		err := <-came
		if took := time.Since(began); !errors.Is(err, feedhttp.ErrAccessDenied) || !errors.Is(err, feedhttp.ErrPin) || !strings.Contains(err.Error(), string(state)) || took > time.Minute {
			t.Errorf("the running poll of a %s site ended after %v with %v", state, took, err)
		}
		for name, client := range map[string]*feedhttp.Client{"its open connection": s.client, "a new one": s.clientAs(t, s.site)} {
			if _, err := client.Keys(t.Context()); !errors.Is(err, feedhttp.ErrAccessDenied) || !strings.Contains(err.Error(), string(state)) {
				t.Errorf("a %s site on %s was told %v", state, name, err)
			}
		}
		if _, err := s.clientAs(t, newIdentity(t)).Keys(t.Context()); err == nil || errors.Is(err, feedhttp.ErrAccessDenied) {
			t.Errorf("a stranger was told %v", err)
		}
	}
	s.access.Set(map[feedhttp.Pin]string{s.site.Pin: "site-a"})
	if _, err := s.client.Keys(t.Context()); err != nil {
		t.Errorf("a site that was let in again got %v", err)
	}
}

// The machine's own key is let in without a roster: its staff look at their feed. A
// stranger hears what is missing.
func TestTheOwnersKeyIsLetIn(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	s.access.SetOwner(s.server.Pin)
	owner := s.clientAs(t, s.server)
	for _, sites := range []map[feedhttp.Pin]string{nil, {s.site.Pin: "site-a"}} {
		s.access.Set(sites)
		if _, err := owner.Keys(t.Context()); err != nil {
			t.Errorf("with access %v: %v", sites, err)
		}
	}
	if name, site := s.access.Site(s.server.Pin); site {
		t.Errorf("the owner is the site %q", name)
	}
	stranger := newIdentity(t)
	_, err := s.clientAs(t, stranger).Keys(t.Context())
	if !errors.Is(err, feedhttp.ErrPin) || !strings.Contains(err.Error(), "responder set --feed-pin") || !strings.Contains(err.Error(), stranger.Pin.String()) {
		t.Errorf("a stranger was told %v", err)
	}
}
