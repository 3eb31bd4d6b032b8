package sites

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/catest"

	"golang.org/x/crypto/ocsp"
)

// Sites whose answers are all true, and which yet do not follow, are not well; the
// result says what is allowed and what to do.
func TestASiteThatDoesNotFollowIsNotWell(t *testing.T) {
	ends := catest.Master(t)
	store := ends.Master
	a := newCA(t, p256(), db.ProfileRevocable)
	catest.Register(t, store, &a.Issuer)
	for _, n := range []byte{0x41, 0x42} {
		if _, err := store.Issue(t.Context(), a.Issuer.ID, db.Serial{n}, time.Now().AddDate(1, 0, 0), act); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := store.Revoke(t.Context(), a.Issuer.ID, db.Serial{0x41}, db.ReasonSuperseded, time.Time{}, act); err != nil {
		t.Fatal(err)
	}
	says := map[string]func(*ocsp.Response){
		"a-follows": func(*ocsp.Response) {},
		"b-behind":  func(r *ocsp.Response) { r.ThisUpdate = r.ThisUpdate.Add(-10 * time.Minute) },
		"c-lacks": func(r *ocsp.Response) {
			if r.SerialNumber.Cmp(big.NewInt(0x41)) == 0 {
				r.Status = ocsp.Good
			}
		},
		"d-forked": func(*ocsp.Response) {},
	}
	for site, say := range says {
		key, c := enrol(t, store, a, site, "http://127.0.0.1:1/")
		setURL(t, store, site, responder(t, a, key, c, func(r *ocsp.Response) {
			if r.SerialNumber.Cmp(big.NewInt(0x41)) == 0 {
				r.Status, r.RevokedAt = ocsp.Revoked, now.Add(-time.Hour)
			}
			say(r)
		}).URL)
	}
	if _, err := ends.Publisher.ReportFork(t.Context(), "d-forked", "two segments of one number", []byte("ours"), []byte("theirs")); err != nil {
		t.Fatal(err)
	}
	v := Surveyor{MaxAge: time.Millisecond, Now: func() time.Time { return now }}
	known, err := v.Learn(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	if known.Revoked[a.Issuer.ID].String() != "41" {
		t.Fatalf("the revocation that each must know: %v", known.Revoked)
	}
	v.MaxAge = DefaultMaxAge
	known.AsOf = now
	want := map[string]struct {
		result Result
		detail string
	}{
		"a-follows": {ResultOK, ""},
		"b-behind":  {ResultBehind, "its knowledge is 15m0s old, 5m0s is allowed (--max-age): the master knows neither a slot"},
		"c-lacks":   {ResultWrong, "certificate 41, revoked over 5m0s ago: the site says good where the master says revoked"},
		"d-forked":  {ResultOK, ""},
	}
	judged := func(known Known, want map[string]struct {
		result Result
		detail string
	},
	) {
		t.Helper()
		sites, err := v.Ask(t.Context(), known)
		if err != nil || len(sites) != len(want) {
			t.Fatalf("%d sites, %v", len(sites), err)
		}
		for _, s := range sites {
			f, w := s.Results[0], want[s.Name]
			if f.Result != w.result || !strings.Contains(f.Detail, w.detail) || s.Well() != (w.result == ResultOK && s.Fork == "") {
				t.Errorf("%s: %s %q, well %v, want %s %q", s.Name, f.Result, f.Detail, s.Well(), w.result, w.detail)
			}
			if (s.Fork != "") != (s.Name == "d-forked" && !known.At.IsZero()) {
				t.Errorf("%s: fork %q", s.Name, s.Fork)
			}
		}
	}
	judged(known, want)

	// The master's own heartbeat is dead: that is the cause, not the sites.
	known.AsOf = now.Add(-time.Hour)
	late := want["b-behind"]
	late.detail = "is its ocspsyncd running?"
	want["b-behind"] = late
	judged(known, want)

	// The master is away: what was kept of it serves, and the sites are compared.
	known.At = time.Time{}
	known.slots, known.clients, known.forks = nil, nil, nil
	late.detail = "another site knows more"
	want["b-behind"] = late
	judged(known, want)
}

// What a cause is told from.
func TestTheCauseIsNamedWithItsFix(t *testing.T) {
	at := time.Unix(1e9, 0)
	known := Known{At: at, AsOf: at}
	for name, test := range map[string]struct {
		site Status
		want string
	}{
		"lost":             {Status{Slot: &SlotState{Lost: true}}, "its slot is lost"},
		"not streaming":    {Status{Slot: &SlotState{}, Feed: &FeedLink{Direct: true}}, "nobody reads its slot"},
		"ocspd stands":     {Status{Slot: &SlotState{Streaming: true}}, "its ocspd does not follow"},
		"not seen":         {Status{Feed: &FeedLink{}}, "the master has not seen it"},
		"feed, ocspd":      {Status{Feed: &FeedLink{Direct: true}}, "it asks the master, its ocspd"},
		"nothing is known": {Status{}, "neither a slot of its name nor a feed pin"},
	} {
		if got := (Surveyor{MaxAge: time.Minute}).cause(known, test.site); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
