package sites

import (
	"context"
	"crypto"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/catest"
	"ocspfleet/ops/issuance"

	"golang.org/x/crypto/ocsp"
)

// until answers good for a number of questions, then revoked.
func until(t *testing.T, a *issuance.Authority, key crypto.Signer, c db.ResponderCertificate, goods int64) (server *httptest.Server, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	return responder(t, a, key, c, func(r *ocsp.Response) {
		if asked.Add(1) > goods {
			r.Status, r.RevokedAt = ocsp.Revoked, now
		}
	}), asked
}

// Each site is asked until it says revoked by an answer that can be believed; who
// never does is named, with what it said last, and the others do not wait for it.
func TestAwaitRevoked(t *testing.T) {
	store := catest.Master(t).Master
	a := newCA(t, p256(), db.ProfileRevocable)
	catest.Register(t, store, &a.Issuer)
	serial := db.Serial{0x5f, 0x03}
	const nowhere = "http://127.0.0.1:1/"
	asked := map[string]*atomic.Int64{}
	for site, goods := range map[string]int64{"a-at-once": 0, "b-later": 2, "c-never": 1 << 40} {
		key, c := enrol(t, store, a, site, nowhere)
		var server *httptest.Server
		server, asked[site] = until(t, a, key, c, goods)
		setURL(t, store, site, server.URL)
	}
	enrol(t, store, a, "d-dead", nowhere)
	// Revoked, by a certificate that is no longer any site's own to the master.
	stranger, strange := enrol(t, store, a, "x-gone", nowhere)
	enrol(t, store, a, "e-forged", nowhere)
	var forged *httptest.Server
	forged, asked["e-forged"] = until(t, a, stranger, strange, 0)
	setURL(t, store, "e-forged", forged.URL)
	if _, err := store.RevokeResponder(t.Context(), "x-gone", db.ReasonSuperseded, act); err != nil {
		t.Fatal(err)
	}
	// On the roster, but not for this issuer.
	if _, err := store.AddResponder(t.Context(), "f-other", nowhere, nil, act); err != nil {
		t.Fatal(err)
	}
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(hangs.Close)
	enrol(t, store, a, "g-hangs", hangs.URL)

	// The silent ones make it last until the context ends.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var replies []Reply
	done := make(chan error, 1)
	go func() {
		var err error
		replies, err = Surveyor{Timeout: 2 * time.Minute, Now: func() time.Time { return now }}.Await(ctx, store, a.Issuer, serial, ocsp.Revoked)
		done <- err
	}()
	for end := time.Now().Add(time.Minute); asked["a-at-once"].Load() < 1 || asked["b-later"].Load() < 3 || asked["e-forged"].Load() < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the sites were not asked again")
		}
	}
	// Half a second lies between two questions: by then the last answers have arrived.
	for enough := asked["c-never"].Load() + 6; asked["c-never"].Load() < enough; time.Sleep(5 * time.Millisecond) {
		if t.Context().Err() != nil {
			t.Fatal("the silent site was not asked again")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"a-at-once": "", "b-later": "", "c-never": "the site says good where the master says revoked", "d-dead": "refused",
		"e-forged": "is none of this site's", "g-hangs": "canceled",
	}
	if len(replies) != len(want) {
		t.Errorf("%d replies: %+v", len(replies), replies)
	}
	for _, r := range replies {
		detail, known := want[r.Site]
		if !known || r.Says != (detail == "") || !strings.Contains(r.Detail, detail) || r.Says != (r.Detail == "") || r.Took <= 0 || r.URL == "" {
			t.Errorf("%+v, want %q", r, detail)
		}
	}
	if n := asked["a-at-once"].Load(); n != 1 {
		t.Errorf("the first was asked %d times", n)
	}
	if n := asked["b-later"].Load(); n != 3 {
		t.Errorf("the second was asked %d times", n)
	}
}

// When all say revoked it returns at once, whatever time is left; without a site
// there is nothing to wait for.
func TestAwaitRevokedReturnsWithTheLastSite(t *testing.T) {
	store := catest.Master(t).Master
	a := newCA(t, p256(), db.ProfileRevocable)
	catest.Register(t, store, &a.Issuer)
	v := Surveyor{Now: func() time.Time { return now }}
	if replies, err := v.Await(t.Context(), store, a.Issuer, db.Serial{1}, ocsp.Revoked); err != nil || len(replies) != 0 {
		t.Errorf("without a site: %+v, %v", replies, err)
	}
	for _, site := range []string{"site-a", "site-b"} {
		key, c := enrol(t, store, a, site, "http://127.0.0.1:1/")
		server, _ := until(t, a, key, c, 1)
		setURL(t, store, site, server.URL)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	replies, err := v.Await(ctx, store, a.Issuer, db.Serial{1}, ocsp.Revoked)
	if err != nil || len(replies) != 2 || !replies[0].Says || !replies[1].Says || ctx.Err() != nil {
		t.Errorf("%+v, %v", replies, err)
	}
	broken := a.Issuer
	broken.Certificate = []byte{0x30, 0}
	if _, err := v.Await(ctx, store, broken, db.Serial{1}, ocsp.Revoked); err == nil || !strings.Contains(err.Error(), `reading the certificate of issuer "ca"`) {
		t.Errorf("an issuer without a certificate: %v", err)
	}
}
