package issuance

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/catest"
)

const crlPlace = "http://ocsp.example/crl/ca"

// farCA is a master whose CA signs CRLs elsewhere, with one revoked site.
func farCA(t *testing.T) (*masterdb.DB, *Authority, db.ResponderCertificate) {
	t.Helper()
	store := catest.Master(t).Master
	a := newCA(t, p256(), db.ProfileRevocable, nil)
	a.place(crlPlace)
	catest.Register(t, store, &a.Issuer)
	enrol(t, store, a, "site-b", "http://b.example/")
	_, c := enrol(t, store, a, "site-a", "http://a.example/")
	if _, err := store.RevokeResponder(t.Context(), "site-a", db.ReasonKeyCompromise, act); err != nil {
		t.Fatal(err)
	}
	return store, a, c
}

// bundled draws up a series, plans it and has it signed, changed by edit before.
func bundled(t *testing.T, store *masterdb.DB, a *Authority, edit func(*Bundle)) *Bundle {
	t.Helper()
	list, position, err := DraftCRLs(t.Context(), store, a.Issuer, Series{Count: 3, Every: CRLEvery, Life: CRLLife})
	if err != nil {
		t.Fatal(err)
	}
	first := must(store.NextCRL(t.Context(), a.Issuer.ID, len(list)))
	for i := range list {
		list[i].Number = first + int64(i)
	}
	b, planned := a.BundleCRLs(list, position, Denied{})
	if err := store.PlanCRLs(t.Context(), a.Issuer.ID, planned, act); err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(&b)
		a.State = OpenState(t.TempDir()) // what it would remember is another test's
	}
	if err := a.SignCRLs(&b, 60*24*time.Hour, time.Now(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	return &b
}

// released releases at a time, and says what became of each CRL.
func released(t *testing.T, store *masterdb.DB, a *Authority, b *Bundle, at time.Time) ([]string, []byte, error) {
	t.Helper()
	a.Issuer = must(store.Issuers(t.Context()))[0]
	list, der, err := a.ReleaseCRL(t.Context(), store, b, true, at, act)
	var actions []string
	for _, r := range list {
		actions = append(actions, r.Action)
	}
	return actions, der, err
}

// Each CRL is published when its time has come, the newest alone when the timer was
// late, and none that has ended.
func TestSeriesOfCRLsIsReleasedInTime(t *testing.T) {
	store, a, c := farCA(t)
	b := bundled(t, store, a, nil)
	began := time.Now()
	number := int64(0)
	for _, step := range []struct {
		after time.Duration
		want  []string
	}{
		{-time.Hour, []string{"waiting", "waiting", "waiting"}},
		{0, []string{"published", "waiting", "waiting"}},
		{time.Hour, []string{"there", "waiting", "waiting"}},
		{2*CRLEvery + time.Hour, []string{"past", "past", "published"}},
		{2*CRLEvery + CRLLife + time.Hour, []string{"past", "past", "there"}},
	} {
		actions, der, err := released(t, store, a, b, began.Add(step.after))
		if err != nil || !slices.Equal(actions, step.want) {
			t.Fatalf("after %s: %q, %v", step.after, actions, err)
		}
		issuer := must(store.Issuers(t.Context()))[0]
		if string(der) != string(issuer.CRL) {
			t.Errorf("after %s: the CRL returned is not the published one", step.after)
		}
		if len(der) == 0 {
			continue
		}
		list := must(x509.ParseRevocationList(der))
		if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].ReasonCode != 1 || list.Number.Int64() < number {
			t.Errorf("after %s: CRL %s with %+v", step.after, list.Number, list.RevokedCertificateEntries)
		}
		number = list.Number.Int64()
		if missing, back, err := CRLGaps(t.Context(), store, issuer, der, time.Now()); err != nil || len(missing)+len(back) > 0 {
			t.Errorf("after %s: missing %v, back %v, %v", step.after, missing, back, err)
		}
	}
	late := bundled(t, store, a, nil)
	if actions, _, err := released(t, store, a, late, began.Add(60*24*time.Hour)); err != nil || !slices.Equal(actions, []string{"ended", "ended", "ended"}) {
		t.Errorf("ended: %q, %v", actions, err)
	}
	if len(must(store.PlannedCRLs(t.Context(), a.Issuer.ID))) != 3 {
		t.Error("what took the place of the first series is not all that is planned")
	}
	if _, err := store.Certificate(t.Context(), a.Issuer.ID, c.Serial); err != nil {
		t.Error(err)
	}
}

// What comes back must say what was planned, and nothing that the CA has not signed.
func TestOnlyPlannedCRLsAreReleased(t *testing.T) {
	store, a, _ := farCA(t)
	other := newCA(t, p256(), db.ProfileRevocable, nil)
	elsewhere := *a
	elsewhere.Issuer.Policy.CRLURL = "http://ca.example/all.crl"
	for name, one := range map[string]struct {
		before, after func(*Bundle)
		want          string
	}{
		"an entry left out":  {before: func(b *Bundle) { b.Revoked = nil }, want: "not say what was planned"},
		"another reason":     {before: func(b *Bundle) { b.Revoked[0].Reason = "superseded" }, want: "not say what was planned"},
		"another time":       {before: func(b *Bundle) { b.CRLs[0].NextUpdate = b.CRLs[0].NextUpdate.Add(time.Hour) }, want: "not say what was planned"},
		"another number":     {after: func(b *Bundle) { b.CRLs[0].Number = b.CRLs[2].Number + 1 }, want: "has not planned it"},
		"another's number":   {after: func(b *Bundle) { b.CRLs[0].CRL = b.CRLs[1].CRL }, want: "not say what was planned"},
		"not signed":         {after: func(b *Bundle) { b.CRLs[0].CRL = "" }, want: "not signed yet"},
		"another CA's":       {after: func(b *Bundle) { resign(t, other, b, crlPlace) }, want: "another CA's"},
		"another place":      {after: func(b *Bundle) { resign(t, a, b, elsewhere.Issuer.Policy.CRLURL) }, want: "its distribution point is not"},
		"of all":             {after: func(b *Bundle) { resign(t, a, b, "") }, want: "its distribution point is not"},
		"for another issuer": {after: func(b *Bundle) { b.IssuerKey = strings.Repeat("00", 32) }, want: "for another CA"},
		"a broken signature": {after: func(b *Bundle) {
			block, _ := pem.Decode([]byte(b.CRLs[0].CRL))
			block.Bytes[len(block.Bytes)-1] ^= 1
			b.CRLs[0].CRL = string(pem.EncodeToMemory(block))
		}, want: "does not bear the CA's signature"},
	} {
		b := bundled(t, store, a, one.before)
		if one.after != nil {
			one.after(b)
		}
		if _, _, err := released(t, store, a, b, time.Now()); err == nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v, want %q", name, err, one.want)
		}
	}
	if issuer := must(store.Issuers(t.Context()))[0]; len(issuer.CRL) > 0 {
		t.Error("one of them was published")
	}
}

// resign puts a CRL of the same content by another CA, or for another place, into the bundle.
func resign(t *testing.T, a *Authority, b *Bundle, url string) {
	t.Helper()
	entries := must(b.entries())
	der := must(a.SignCRL(CRLContent{b.CRLs[0].Number, b.CRLs[0].ThisUpdate, b.CRLs[0].NextUpdate, entries, url}, rand.Reader))
	b.CRLs[0].CRL = string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// The CA believes nothing in the bundle.
func TestTheCARefusesCRLsOfAnotherForm(t *testing.T) {
	store, a, _ := farCA(t)
	for name, one := range map[string]struct {
		edit func(*Bundle)
		url  string
		want string
	}{
		"no place configured": {func(*Bundle) {}, "", "names no crl_url"},
		"another place":       {func(b *Bundle) { b.CRLURL = "http://ca.example/all.crl" }, crlPlace, "this CA's configuration says"},
		"no time":             {func(b *Bundle) { b.Revoked[0].RevokedAt = time.Time{} }, crlPlace, "revoked_at is missing"},
		"no end":              {func(b *Bundle) { b.Revoked[0].NotAfter = time.Time{} }, crlPlace, "not_after is missing"},
		"a long life":         {func(b *Bundle) { b.CRLs[1].NextUpdate = b.CRLs[1].ThisUpdate.Add(MaxCRLLife + time.Second) }, crlPlace, "want 240h0m0s at most"},
		"no life":             {func(b *Bundle) { b.CRLs[1].NextUpdate = b.CRLs[1].ThisUpdate }, crlPlace, "want 240h0m0s at most"},
		"far ahead": {func(b *Bundle) {
			b.CRLs[2].ThisUpdate = time.Now().Add(61 * 24 * time.Hour)
			b.CRLs[2].NextUpdate = b.CRLs[2].ThisUpdate.Add(time.Hour)
		}, crlPlace, "ahead at most"},
		"ended": {func(b *Bundle) {
			b.CRLs[0].ThisUpdate = time.Now().Add(-9 * 24 * time.Hour)
			b.CRLs[0].NextUpdate = b.CRLs[0].ThisUpdate.Add(time.Hour)
		}, crlPlace, "it ended"},
		"a number twice": {func(b *Bundle) { b.CRLs[1].Number = b.CRLs[0].Number }, crlPlace, "do not grow"},
		"no number":      {func(b *Bundle) { b.CRLs[0].Number = 0 }, crlPlace, "do not grow"},
		"no serial":      {func(b *Bundle) { b.Revoked[0].Serial = "xyz" }, crlPlace, "reading the revoked certificates"},
		"no reason":      {func(b *Bundle) { b.Revoked[0].Reason = "boredom" }, crlPlace, "want one of"},
	} {
		b := bundled(t, store, a, nil)
		one.edit(b)
		ca := *a
		ca.Rules.CRLURL = one.url
		if err := ca.SignCRLs(b, 60*24*time.Hour, time.Now(), rand.Reader); err == nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v, want %q", name, err, one.want)
		}
	}
}

// A hold that was released after the series was drawn up is named still, and that is said.
func TestCRLGapsNameWhatCameBack(t *testing.T) {
	store, a, c := farCA(t)
	if _, err := store.SuspendResponder(t.Context(), "site-b", act); err != nil {
		t.Fatal(err)
	}
	b := bundled(t, store, a, nil)
	if _, err := store.RestoreResponder(t.Context(), "site-b", act); err != nil {
		t.Fatal(err)
	}
	enrol(t, store, a, "site-c", "http://c.example/")
	if _, err := store.RevokeResponder(t.Context(), "site-c", db.ReasonSuperseded, act); err != nil {
		t.Fatal(err)
	}
	_, der, err := released(t, store, a, b, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	missing, back, err := CRLGaps(t.Context(), store, a.Issuer, der, time.Now())
	if err != nil || len(missing) != 1 || len(back) != 1 || slices.ContainsFunc(append(missing, back...), func(s db.Serial) bool { return string(s) == string(c.Serial) }) {
		t.Errorf("missing %v, back %v, %v", missing, back, err)
	}
}
