package sites

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/catest"
	"ocspfleet/ops/certprofile"
	"ocspfleet/ops/issuance"

	"golang.org/x/crypto/ocsp"
)

// responder answers like a site, with what edit makes of it.
func responder(t *testing.T, a *issuance.Authority, key crypto.Signer, c db.ResponderCertificate, edit func(*ocsp.Response)) *httptest.Server {
	t.Helper()
	certificate := must(x509.ParseCertificate(c.DER))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, err := ocsp.ParseRequest(must(io.ReadAll(r.Body)))
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/ocsp-request" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		answer := ocsp.Response{
			Status: ocsp.Good, SerialNumber: asked.SerialNumber, ThisUpdate: now.Add(-5 * time.Minute), NextUpdate: now.Add(72 * time.Hour),
			Certificate: certificate, IssuerHash: crypto.SHA256,
		}
		if edit != nil {
			edit(&answer)
		}
		_, _ = w.Write(must(ocsp.CreateResponse(a.Certificate, must(x509.ParseCertificate(answer.Certificate.Raw)), answer, key)))
	}))
	t.Cleanup(s.Close)
	return s
}

// Each kind of site gets its result; one active site that is not well is enough.
func TestSurveyJudgesWhatSitesSay(t *testing.T) {
	store := catest.Master(t).Master
	a := newCA(t, p256(), db.ProfileRevocable)
	catest.Register(t, store, &a.Issuer)
	url := func(handler http.HandlerFunc) string {
		s := httptest.NewServer(handler)
		t.Cleanup(s.Close)
		return s.URL
	}
	edits := map[string]func(*ocsp.Response){
		"a-good":   nil,
		"b-lies":   func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, now },
		"c-stale":  func(r *ocsp.Response) { r.NextUpdate = now.Add(-time.Second) },
		"d-ahead":  func(r *ocsp.Response) { r.ThisUpdate = now.Add(10 * time.Minute) },
		"e-wanton": func(r *ocsp.Response) { r.SerialNumber = big.NewInt(1) },
	}
	want := map[string]struct {
		result Result
		detail string
	}{
		"a-good":    {ResultOK, ""},
		"b-lies":    {ResultWrong, "the site says revoked where the master says good"},
		"c-stale":   {ResultWrong, "nextUpdate"},
		"d-ahead":   {ResultWrong, "lies in the future"},
		"e-wanton":  {ResultWrong, "about another serial"},
		"f-later":   {ResultRefused, "OCSP error try later: it doubts its copy"},
		"g-absent":  {ResultUnreachable, "refused"},
		"h-html":    {ResultWrong, ""},
		"i-503":     {ResultRefused, "HTTP status 503"},
		"j-moved":   {ResultRefused, "HTTP status 302"},
		"k-other":   {ResultWrong, "is none of this site's"},
		"l-nothing": {ResultNoCertificate, "no certificate for any issuer"},
		"m-expired": {ResultNoCertificate, "expired or revoked"},
		"n-endless": {ResultWrong, "longer than"},
		"o-slow":    {ResultUnreachable, "deadline"},
	}
	keys := map[string]crypto.Signer{}
	for site := range want {
		if site != "l-nothing" {
			key, c := enrol(t, store, a, site, "http://127.0.0.1:1/")
			keys[site] = key
			if edit, ok := edits[site]; ok {
				setURL(t, store, site, responder(t, a, key, c, edit).URL)
			}
			if site == "m-expired" {
				if _, _, err := store.Revoke(t.Context(), a.Issuer.ID, c.Serial, db.ReasonSuperseded, time.Time{}, act); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	strange, c := enrol(t, store, a, "x-strange", "http://127.0.0.1:1/")
	if _, err := store.RevokeResponder(t.Context(), "x-strange", db.ReasonSuperseded, act); err != nil {
		t.Fatal(err)
	}
	setURL(t, store, "k-other", responder(t, a, strange, c, nil).URL)
	setURL(t, store, "l-nothing", "http://127.0.0.1:1/")
	setURL(t, store, "f-later", url(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(ocsp.TryLaterErrorResponse) }))
	setURL(t, store, "h-html", url(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>It works!</html>") }))
	setURL(t, store, "i-503", url(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	setURL(t, store, "j-moved", url(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }))
	setURL(t, store, "n-endless", url(func(w http.ResponseWriter, _ *http.Request) {
		for range 100 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	setURL(t, store, "o-slow", url(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))

	sites, err := Surveyor{Timeout: 2 * time.Second, Now: func() time.Time { return now }}.Survey(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	if len(sites) != len(want)+1 {
		t.Fatalf("%d sites", len(sites))
	}
	for _, s := range sites {
		if s.Name == "x-strange" {
			if len(s.Results) != 0 || !s.Well() {
				t.Errorf("a revoked site was asked: %+v", s.Results)
			}
			continue
		}
		if len(s.Results) != 1 {
			t.Errorf("%s: %+v", s.Name, s.Results)
			continue
		}
		f, w := s.Results[0], want[s.Name]
		if f.Result != w.result || !strings.Contains(f.Detail, w.detail) {
			t.Errorf("%s: %s %q, want %s %q", s.Name, f.Result, f.Detail, w.result, w.detail)
		}
		if s.Well() != (w.result == ResultOK) {
			t.Errorf("%s: well is %t", s.Name, s.Well())
		}
		if s.Name == "a-good" && (!f.ThisUpdate.Equal(now.Add(-5*time.Minute)) || f.Took <= 0 || f.Issuer != "ca") {
			t.Errorf("a-good: %+v", f)
		}
	}
}

func setURL(t *testing.T, store *masterdb.DB, site, url string) {
	t.Helper()
	if _, err := store.AddResponder(t.Context(), site, url, nil, act); err != nil {
		t.Fatal(err)
	}
}

// A signer that the CA never made, or not for OCSP, is not believed (RFC 6960
// section 4.2.2.2).
func TestJudgeRefusesOtherSigners(t *testing.T) {
	caKey := p256()
	a := newCA(t, caKey, db.ProfileRevocable)
	other := newCA(t, p256(), db.ProfileRevocable)
	key := p256()
	serial := db.Serial{1, 2, 3}
	answer := ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(0x010203), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	sign := func(by *issuance.Authority, signerKey crypto.Signer, certificate *x509.Certificate) []byte {
		r := answer
		r.Certificate = certificate
		responder := certificate
		if certificate == nil {
			responder = by.Certificate
		}
		return must(ocsp.CreateResponse(a.Certificate, responder, r, signerKey))
	}
	request := must(issuance.ParseRequest(csr(key, "site-a"), "site-a"))
	issue := func(by *issuance.Authority) *x509.Certificate {
		template := must(by.Template(request, certprofile.DefaultLife, now, rand.Reader))
		return must(x509.ParseCertificate(must(by.Sign(template, request, now, rand.Reader))))
	}
	web := must(a.Template(request, certprofile.DefaultLife, now, rand.Reader))
	web.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	webCertificate := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, web, a.Certificate, key.Public(), caKey))))
	for name, raw := range map[string][]byte{
		"another CA's":  sign(other, key, issue(other)),
		"a web server":  sign(a, key, webCertificate),
		"the CA itself": sign(a, caKey, nil),
		"no key of its": sign(a, p256(), issue(a)),
	} {
		if _, result, err := checkAnswer(raw, a.Certificate, serial, masterdb.Responder{}, ocsp.Good, now); result != ResultWrong || err == nil {
			t.Errorf("%s: %s, %v", name, result, err)
		}
	}
}

// The root signs the first set with keys for corrections when every site reads it: one
// that says that it does not, or says nothing, is shown.
func TestOutdatedSiteIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		site Status
		want bool
	}{
		"a feed site that reads it":     {Status{Feed: &FeedLink{SeenAt: time.Unix(1, 0), Form: 2}}, false},
		"a feed site that does not":     {Status{Feed: &FeedLink{SeenAt: time.Unix(1, 0), Form: 1}}, true},
		"a feed site that says nothing": {Status{Feed: &FeedLink{SeenAt: time.Unix(1, 0)}}, true},
		"a feed site never heard of":    {Status{Feed: &FeedLink{}}, false},
		"a native site that reads it":   {Status{Slot: &SlotState{Streaming: true, Form: 2}, Feed: &FeedLink{SeenAt: time.Unix(1, 0)}}, false},
		"a native site that does not":   {Status{Slot: &SlotState{Streaming: true}}, true},
		"a native site that is away":    {Status{Slot: &SlotState{}}, false},
	} {
		if got := test.site.Outdated(); got != test.want {
			t.Errorf("%s: outdated %v, want %v", name, got, test.want)
		}
	}
}

// How far a site is says its slot for the rows, not the one for the signed files.
func TestTheSlotForTheFilesIsNoLink(t *testing.T) {
	rows := db.Slot{Name: "ocsp_site_a_1790000000000", LagBytes: 7}
	files := db.Slot{Name: "ocsp_site_a_01790000001", Active: true}
	if link := slotOf("site-a", []db.Slot{files, rows}); link == nil || link.Streaming || link.Behind != 7 {
		t.Errorf("the link is %+v", link)
	}
	if link := slotOf("site-a", []db.Slot{files}); link != nil {
		t.Errorf("without a slot for the rows the link is %+v", link)
	}
}
